//! The container locator. Finds a container id anywhere in a cgroup path, whatever engine and cgroup driver made the path.

/// Finds the id that the paths claim. Returns `Ok(None)` if no path has an id, and `Err` with both ids if two paths differ.
/// A path without an id never conflicts with one that has an id.
pub fn claim<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<Option<&'a str>, (&'a str, &'a str)> {
    let mut claimed = None;
    for id in paths.into_iter().filter_map(container_id) {
        match claimed {
            Some(before) if before != id => return Err((before, id)),
            _ => claimed = Some(id),
        }
    }
    Ok(claimed)
}

/// Finds the id in the last component that has one. The search ends at an empty component.
fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').take_while(|component| !component.is_empty()).find_map(id_in_component)
}

/// Finds the first run of exactly 64 hex digits of either case that is not adjacent to a letter, digit or underscore.
fn id_in_component(component: &str) -> Option<&str> {
    let bytes = component.as_bytes();
    let mut start = 0;
    // Words are runs of ASCII word characters. All other bytes, also those of multi-byte UTF-8 characters, separate words.
    while let Some(offset) = bytes.get(start..)?.iter().position(|byte| is_word(*byte)) {
        let word = start + offset;
        let end =
            bytes.get(word..)?.iter().position(|byte| !is_word(*byte)).map_or(bytes.len(), |length| word + length);
        if end - word == 64 && bytes.get(word..end)?.iter().all(u8::is_ascii_hexdigit) {
            return component.get(word..end);
        }
        start = end;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    #![expect(clippy::string_slice, reason = "the ids are ASCII")]

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn drivers_and_engines_name_their_cgroups_differently() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}/init.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/{ID}"),
            format!("/kubepods-pod0f1e2d3c.slice:cri-containerd:{ID}"),
            format!("/../../{ID}"),
            format!("/docker/{OTHER}/docker/{ID}"),
        ] {
            assert_eq!(claim([path.as_str()]), Ok(Some(ID)), "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_an_id_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/sshd.service",
            &format!("/{ID}0"),
            &format!("/g{ID}"),
            &format!("/{ID}_"),
            &format!("/{}", &ID[1..]),
        ] {
            assert_eq!(claim([path]), Ok(None), "{path}");
        }
        // The search goes from the end to the start, and an empty component ends it.
        assert_eq!(claim([format!("/docker/{ID}//x").as_str()]), Ok(None));
        assert_eq!(claim([format!("/docker/{ID}/").as_str()]), Ok(None));
    }

    #[test]
    fn two_ids_conflict_and_none_does_not() {
        let (one, two) = (format!("/docker/{ID}"), format!("/docker/{OTHER}"));
        assert_eq!(claim([one.as_str(), "/", one.as_str()]), Ok(Some(ID)));
        assert_eq!(claim(["/", one.as_str()]), Ok(Some(ID)));
        assert_eq!(claim([one.as_str(), two.as_str()]), Err((ID, OTHER)));
    }
}
