//! The values of a container that must not reach a log through a component that was told them.

use containers::{Container, Proven};
use sandbox::Values;

/// The values of a container's labels and env, those of the two that a component was told. Of `NAME=VALUE` it is the value.
pub fn values(container: &Container, labels: bool, env: bool) -> Vec<&str> {
    let env = container.env.iter().filter(|_| env);
    let env = env.map(|env| env.split_once('=').map_or(env.as_str(), |(_, value)| value));
    let labels = container.labels.iter().filter(|_| labels).map(|(_, value)| value.as_str());
    env.chain(labels).collect()
}

/// What an extension is told of a proven container.
pub struct Told {
    /// The container.
    pub container: Proven,
    /// Whether the extension is told the labels.
    pub labels: bool,
    /// Whether the extension is told the env.
    pub env: bool,
}

impl Values for Told {
    fn values(&self) -> Vec<&str> {
        values(self.container.container(), self.labels, self.env)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_told_is_a_value() {
        let container = Container {
            id: String::new(),
            labels: vec![("key".to_owned(), "label".to_owned())],
            env: vec!["A=value".to_owned(), "bare".to_owned(), "B=a=b".to_owned()],
            image: String::new(),
            image_id: None,
            image_manifest_digest: None,
        };
        assert_eq!(values(&container, true, false), ["label"]);
        assert_eq!(values(&container, false, true), ["value", "bare", "a=b"]);
        assert_eq!(values(&container, false, false), [""; 0]);
    }
}
