// Derives an account from the workload's uid: with settings = { "1000" = "web" }, uid 1000 becomes `account:web`.
// Grant: process. The kernel provides the uid, in the host's user namespace, and the operator gives it a meaning.
#include "extension.h"

#include <stdlib.h>
#include <string.h>

typedef exports_docker_attestor_policy_deriver_workload_t workload_t;
typedef extension_list_tuple2_string_string_t settings_t;

// The uid's canonical decimal digits. "01" and " 1" are therefore no keys of uid 1.
static extension_string_t decimal(uint32_t uid, uint8_t digits[10]) {
    uint8_t *first = digits + 10;
    do {
        *--first = '0' + uid % 10;
        uid /= 10;
    } while (uid > 0);
    return (extension_string_t){first, digits + 10 - first};
}

bool exports_docker_attestor_policy_deriver_derive(workload_t *workload, settings_t *settings,
                                                   extension_list_string_t *selectors, extension_string_t *error) {
    if (!workload->process.is_some) {
        extension_string_dup(error, "it needs grants = [\"process\"]");
        return false;
    }
    uint8_t digits[10];
    extension_string_t uid = decimal(workload->process.val.uid, digits);
    *selectors = (extension_list_string_t){malloc(sizeof(extension_string_t)), 0};
    for (size_t i = 0; i < settings->len && selectors->len == 0; i++) {
        extension_tuple2_string_string_t setting = settings->ptr[i];
        if (setting.f0.len == uid.len && memcmp(setting.f0.ptr, uid.ptr, uid.len) == 0) {
            extension_string_dup_n(&selectors->ptr[selectors->len++], (char *)setting.f1.ptr, setting.f1.len);
        }
    }
    return true;
}
