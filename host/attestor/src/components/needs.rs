//! Compares what a component says that it needs with its configuration.

use sandbox::needs::{Grant, Needs, SettingKeys};

use crate::config::{self, Grants};

/// Compares what an extension needs with its block of the configuration. Returns warnings.
///
/// # Errors
/// Everything that does not fit.
pub(crate) fn compare(needs: &Needs, extension: &config::Extension) -> Result<Vec<String>, String> {
    let grants = compare_grants(needs, extension.grants);
    match (grants, compare_settings(needs, &extension.component.settings)) {
        (Ok(warnings), Ok(())) => Ok(warnings),
        (Ok(_), Err(why)) | (Err(why), Ok(())) => Err(why),
        (Err(grants), Err(settings)) => Err(format!("{grants}; {settings}")),
    }
}

/// Compares an extension's grants with those that the extension needs. Returns warnings.
///
/// # Errors
/// A grant is missing.
fn compare_grants(needs: &Needs, grants: Grants) -> Result<Vec<String>, String> {
    let Some(needed) = &needs.grants else { return Ok(Vec::new()) };
    if needed.iter().any(|grant| !grants.has(*grant)) {
        return Err(format!("it needs grants = [{}], and is granted {grants}", quoted(needed)));
    }
    let surplus: Vec<Grant> =
        Grant::ALL.into_iter().filter(|grant| grants.has(*grant) && !needed.contains(grant)).collect();
    match surplus.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(vec![format!("it does not need {}: take it out of grants", quoted(&surplus))]),
    }
}

/// Compares a component's settings with those that the component has.
///
/// # Errors
/// Everything that does not fit.
pub(crate) fn compare_settings(needs: &Needs, settings: &[(String, String)]) -> Result<(), String> {
    let Some(keys) = &needs.settings else { return Ok(()) };
    let is_set = |key: &str| settings.iter().any(|(set, _)| set == key);
    let missing = keys.required.iter().filter(|key| !is_set(key)).map(|key| format!("it needs the setting {key:?}"));
    let unknown = settings.iter().filter(|(set, _)| !keys.all().any(|key| key == set));
    let unknown = unknown.map(|(set, _)| format!("it has no setting {set:?}: it has {}", known(keys)));
    let wrong: Vec<String> = missing.chain(unknown).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("; ")),
    }
}

fn known(keys: &SettingKeys) -> String {
    let keys: Vec<String> = keys.all().map(|key| format!("{key:?}")).collect();
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}

fn quoted(grants: &[Grant]) -> String {
    grants.iter().map(|grant| format!("{:?}", grant.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> Needs {
        Needs::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn grants_are_compared_only_if_the_component_names_some() {
        let all = Grants { labels: true, env: true, image: true, process: true };
        let labels = Grants { labels: true, ..Grants::default() };
        let team = needs(r#"{"grants": ["labels"]}"#);
        assert_eq!(compare_grants(&team, labels), Ok(Vec::new()));
        assert_eq!(
            compare_grants(&team, all),
            Ok(vec!["it does not need \"env\", \"image\", \"process\": take it out of grants".to_owned()])
        );
        assert_eq!(
            compare_grants(&needs(r#"{"grants": ["labels", "env"]}"#), labels),
            Err("it needs grants = [\"labels\", \"env\"], and is granted labels".to_owned())
        );
        assert_eq!(compare_grants(&needs("{}"), all), Ok(Vec::new()));
    }

    #[test]
    fn every_setting_that_does_not_fit_is_named() {
        let settings = |keys: &[&str]| -> Vec<(String, String)> {
            keys.iter().map(|key| ((*key).to_owned(), "secret".to_owned())).collect()
        };
        let both = needs(r#"{"settings": {"required": ["label"], "optional": ["prefix"]}}"#);
        for fits in [&["label"][..], &["label", "prefix"]] {
            assert_eq!(compare_settings(&both, &settings(fits)), Ok(()), "{fits:?}");
        }
        assert_eq!(
            compare_settings(&both, &settings(&["lable"])).unwrap_err(),
            "it needs the setting \"label\"; it has no setting \"lable\": it has \"label\", \"prefix\""
        );
        let none = compare_settings(&needs(r#"{"settings": {}}"#), &settings(&["x"])).unwrap_err();
        assert_eq!(none, "it has no setting \"x\": it has none");
        assert_eq!(compare_settings(&needs("{}"), &settings(&["x"])), Ok(()));
    }
}
