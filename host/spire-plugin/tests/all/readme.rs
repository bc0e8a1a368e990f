//! Checks that the README shows the tested example.

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../examples/process_name.rs");

#[test]
fn the_readme_shows_the_example_that_is_tested() {
    assert!(
        README.contains(&format!("```rust,no_run\n{EXAMPLE}```\n")),
        "README.md must hold examples/process_name.rs as it is"
    );
}
