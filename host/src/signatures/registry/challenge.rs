//! How a registry asks for a login (RFC 9110, 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Bytes of one header that are looked at.
const HEADER: usize = 4_096;

/// One way in, of those that we know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// By user name and password.
    Basic,
    /// By a token that the realm gives.
    Bearer { realm: String, service: Option<String> },
}

/// One way in, of any kind.
struct Offer {
    scheme: String,
    realm: Option<String>,
    service: Option<String>,
}

impl Challenge {
    /// Every challenge of an answer that we know, in order: there may be several in one header, and several headers.
    pub(super) fn of(headers: &HeaderMap) -> Vec<Challenge> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        texts.filter(|text| text.len() <= HEADER).flat_map(offers).filter_map(Offer::known).collect()
    }
}

impl Offer {
    fn known(self) -> Option<Challenge> {
        match self.scheme.to_ascii_lowercase().as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer { realm: self.realm?, service: self.service }),
            _ => None,
        }
    }
}

/// The challenges of one header: a scheme, and its parameters `name=value`, all of them separated by commas.
fn offers(text: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = rest.split_at(rest.find(|char| !is_token(char)).unwrap_or(rest.len()));
        if rest.is_empty() {
            return offers;
        }
        match (name, after.trim_start().strip_prefix('=')) {
            // Neither: the value of a scheme without parameters, or nonsense.
            ("", _) => rest = after.split_once(',').map_or("", |(_, rest)| rest),
            (scheme, None) => {
                offers.push(Offer { scheme: scheme.to_owned(), realm: None, service: None });
                rest = after;
            }
            (name, Some(value)) => {
                let (value, after) = parameter(value.trim_start());
                if let Some(offer) = offers.last_mut() {
                    match name.to_ascii_lowercase().as_str() {
                        "realm" => offer.realm = Some(value),
                        "service" => offer.service = Some(value),
                        _ => {}
                    }
                }
                rest = after;
            }
        }
    }
}

/// A parameter's value, in quotes or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => value.extend(chars.next()),
            char => value.push(char),
        }
    }
    (value, chars.as_str())
}

/// RFC 9110, 5.6.2.
fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(texts: &[&str]) -> Vec<Challenge> {
        let values = texts.iter().map(|text| (WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap()));
        Challenge::of(&HeaderMap::from_iter(values))
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (text, challenge) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            (r#"bearer Realm = "https://a/t" , SERVICE=r"#, bearer("https://a/t", Some("r"))),
            (r#"Bearer error="invalid_token",realm="https://a/t""#, bearer("https://a/t", None)),
            (r#"Bearer realm="https://a/\"t\\""#, bearer(r#"https://a/"t\"#, None)),
            (r#"Basic realm="a, Bearer realm=b""#, Challenge::Basic),
            ("Basic", Challenge::Basic),
            ("BASIC realm=x", Challenge::Basic),
        ] {
            assert_eq!(parse(&[text]), [challenge], "{text}");
        }
    }

    #[test]
    fn several_challenges_are_found_in_one_header_and_in_several() {
        let both = [Challenge::Basic, bearer("https://a/t", Some("s"))];
        assert_eq!(parse(&[r#"Basic realm="x", Bearer realm="https://a/t",service="s""#]), both);
        assert_eq!(parse(&[r#"Basic realm="x""#, r#"Bearer realm="https://a/t",service="s""#]), both);
        assert_eq!(parse(&[r#"Negotiate YII/+==, Basic, Digest a=b, Bearer realm="https://a/t", service=s"#]), both);
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(HEADER));
        for text in ["", ",", "=", "Bearer", "Bearer service=s", "Negotiate", "\"Basic\"", "realm=\"https://a\"", &long]
        {
            assert_eq!(parse(&[text]), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_or_hangs(text in r#"([A-Za-z=",\\ /]|Bearer |realm=|Basic,){0,64}"#) {
            parse(&[&text]);
        }
    }
}
