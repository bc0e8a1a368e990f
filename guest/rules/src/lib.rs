//! Rules without a compiler: an extension that takes a table of rules from its settings. The key of a setting is a selector. The
//! value says when a workload gets this selector, such as `label app = web; env DEBUG absent`.
//!
//! The language of the rules is described in `rule.rs`, and for operators on the author's page (`guest/README.md`).

mod facts;
mod rule;
mod table;

// The contract, whose parts are documented in wit/policy.wit.
mod component {
    wit_bindgen::generate!({ world: "validating-extension", path: "../../wit" });

    use exports::docker_attestor::policy::deriver::{self, Workload};
    use exports::docker_attestor::policy::settings_validator;

    use crate::table;

    struct Rules;

    impl settings_validator::Guest for Rules {
        fn validate(settings: Vec<(String, String)>) -> Result<Vec<String>, Vec<String>> {
            table::validate(&settings)
        }
    }

    impl deriver::Guest for Rules {
        fn derive(workload: Workload, settings: Vec<(String, String)>) -> Result<Vec<String>, String> {
            table::derive(&workload, &settings)
        }
    }

    #[cfg(target_arch = "wasm32")]
    #[expect(unsafe_code, reason = "the exported functions of the component model's ABI")]
    mod exported {
        use super::{Rules, export};

        export!(Rules with_types_in super);
    }
}
