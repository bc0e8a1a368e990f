//! Lines of spire-agent's log that say which selectors a process got. The agent writes them at level debug, in logrus' form `text` or
//! `json`. Each line has the selectors of all attestors, and a selector's type is the name of its plugin in agent.conf.

use serde::Deserialize;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A process was attested.
    Attested {
        /// The process, or `None` for another reference to a workload.
        pid: Option<i32>,
        /// The selectors of all attestors, `TYPE:VALUE`.
        selectors: Vec<String>,
    },
    /// A plugin failed. Its selectors are missing in the line that follows.
    Failed {
        /// The process, or `None` for another reference to a workload.
        pid: Option<i32>,
        /// The plugin.
        plugin: String,
        /// The plugin's error.
        error: String,
    },
    /// The agent loaded the plugin, and so it was started.
    Loaded {
        /// The plugin.
        plugin: String,
    },
}

/// The fields that are used, as the agent's source names them (pkg/agent/attestor/workload, pkg/common/catalog, pkg/common/telemetry).
#[derive(Debug, Default, Deserialize)]
struct Fields {
    #[serde(default)]
    msg: String,
    pid: Option<i32>,
    #[serde(default)]
    selectors: Vec<Selector>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    plugin_name: String,
}

/// The agent's message common.Selector.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Selector {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    value: String,
}

/// A line that says something of selectors, but not in a form that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What a line of the log says. `None` if it is about something else. A prefix, as journald and Kubernetes put before a line, is passed
/// over.
pub(super) fn event(line: &str) -> Result<Option<Event>, Unreadable> {
    let is_of_interest = ["attested to have selectors", "workload attestor ", "Plugin loaded"];
    if !is_of_interest.iter().any(|part| line.contains(part)) {
        return Ok(None);
    }
    // Values may hold anything, so the form is tried and not guessed. A line of text has `{"` inside a value at most.
    let json = line.find("{\"").and_then(|start| line.get(start..));
    let fields = match json.map(serde_json::from_str::<serde_json::Value>) {
        Some(Ok(json)) => serde_json::from_value(json).map_err(|_| Unreadable)?,
        // Text, or JSON that was cut.
        Some(Err(_)) => fields(line).filter(|fields| !fields.msg.is_empty()).ok_or(Unreadable)?,
        None => fields(line).ok_or(Unreadable)?,
    };
    let Fields { msg, pid, selectors, error, plugin_name } = fields;
    if matches!(&*msg, "PID attested to have selectors" | "Reference attested to have selectors") {
        let text = |Selector { r#type, value }| format!("{type}:{value}");
        return Ok(Some(Event::Attested { pid, selectors: selectors.into_iter().map(text).collect() }));
    }
    if msg == "Plugin loaded" {
        return Ok(Some(Event::Loaded { plugin: plugin_name }));
    }
    let failed = msg.strip_prefix("workload attestor ").and_then(|rest| rest.strip_suffix(" failed"));
    let plugin = failed.and_then(|name| unquoted(name).filter(|(_, rest)| rest.is_empty()));
    Ok(plugin.map(|(plugin, _)| Event::Failed { pid, plugin, error }))
}

/// Parses `KEY=VALUE` with spaces between. A value with other characters than letters, digits and some signs is quoted as Go's %q does.
fn fields(line: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            // A word of a prefix, or the space between two fields.
            rest = after.get(1..).unwrap_or_default();
            continue;
        };
        let (value, after) = match value.starts_with('"') {
            true => unquoted(value)?,
            false => {
                let (value, after) = value.split_at(value.find(' ').unwrap_or(value.len()));
                (value.to_owned(), after)
            }
        };
        match key {
            "msg" => fields.msg = value,
            "pid" => fields.pid = Some(value.parse().ok()?),
            "selectors" => fields.selectors = selectors(&value)?,
            "error" => fields.error = value,
            "plugin_name" => fields.plugin_name = value,
            _ => {}
        }
        rest = after;
    }
    Some(fields)
}

/// Parses `[type:"unix" value:"uid:0" type:…]`: Go's %v of a list of messages, each in the text form of Protocol Buffers. That form has
/// one or two spaces between fields, and leaves empty fields out.
fn selectors(text: &str) -> Option<Vec<Selector>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim_start();
    let mut selectors = Vec::new();
    while !rest.is_empty() {
        let mut selector = Selector::default();
        if let Some(after) = rest.strip_prefix("type:") {
            (selector.r#type, rest) = trimmed(unquoted(after)?);
        }
        if let Some(after) = rest.strip_prefix("value:") {
            (selector.value, rest) = trimmed(unquoted(after)?);
        }
        if selector == Selector::default() {
            return None;
        }
        selectors.push(selector);
    }
    Some(selectors)
}

fn trimmed((text, rest): (String, &str)) -> (String, &str) {
    (text, rest.trim_start())
}

/// Reads a text in double quotes at the start of `text`, and returns what comes after it. The escapes are those of Go's strconv.Quote,
/// which include those of the text form of Protocol Buffers.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    let mut chars = inner.char_indices();
    let mut buffer = [0; 4];
    loop {
        let (at, char) = chars.next()?;
        match char {
            '"' => return Some((String::from_utf8(bytes).ok()?, inner.get(at + 1..)?)),
            '\\' => {
                let (_, escape) = chars.next()?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let mut number = 0;
                    for _ in 0..digits {
                        number = number << 4 | chars.next()?.1.to_digit(16)?;
                    }
                    match escape {
                        'x' => bytes.push(u8::try_from(number).ok()?),
                        _ => bytes.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut buffer).as_bytes()),
                    }
                    continue;
                }
                bytes.push(match escape {
                    'a' => 7,
                    'b' => 8,
                    't' => b'\t',
                    'n' => b'\n',
                    'v' => 11,
                    'f' => 12,
                    'r' => b'\r',
                    '\\' | '"' => u8::try_from(escape).ok()?,
                    _ => return None,
                });
            }
            char => bytes.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Quotes a text as Go's strconv.QuoteToASCII does, and so with more escapes than the agent.
    fn quoted(text: &str) -> String {
        let escaped = |char: char| match char {
            '"' | '\\' => format!("\\{char}"),
            '\n' => "\\n".to_owned(),
            ' '..='~' => char.to_string(),
            '\0'..='\x7f' => format!("\\x{:02x}", u32::from(char)),
            '\u{80}'..='\u{ffff}' => format!("\\u{:04x}", u32::from(char)),
            _ => format!("\\U{:08x}", u32::from(char)),
        };
        format!("\"{}\"", text.chars().map(escaped).collect::<String>())
    }

    proptest! {
        #[test]
        fn every_selector_survives_the_escapes_of_the_log(values in prop::collection::vec(any::<String>(), 0..4)) {
            let message = |value: &String| {
                let value = if value.is_empty() { String::new() } else { format!(" value:{}", quoted(value)) };
                format!("type:\"docker\" {value}")
            };
            let list = format!("[{}]", values.iter().map(message).collect::<Vec<_>>().join(" "));
            let line = format!("x=y msg=\"PID attested to have selectors\" selectors={} pid=1", quoted(&list));
            let selectors = values.iter().map(|value| format!("docker:{value}")).collect();
            prop_assert_eq!(event(&line), Ok(Some(Event::Attested { pid: Some(1), selectors })));
        }

        #[test]
        fn no_line_is_too_strange(line in "(PID attested to have selectors|Plugin loaded|[\"\\\\=:{}\\[\\] a-z\\PC])*") {
            let _ = event(&line);
        }
    }

    fn attested(pid: i32, selectors: &[&str]) -> Result<Option<Event>, Unreadable> {
        let selectors = selectors.iter().map(|&selector| selector.to_owned()).collect();
        Ok(Some(Event::Attested { pid: Some(pid), selectors }))
    }

    #[test]
    fn both_forms_of_the_log_say_the_same_and_a_prefix_changes_nothing() {
        let text = r#"time="2026-11-28T13:00:00Z" level=debug msg="PID attested to have selectors" pid=12 selectors="[type:\"unix\"  value:\"uid:0\" type:\"docker\" value:\"label:a:x\\\"y\\n\\\\z é\"]" subsystem_name=workload_attestor"#;
        let json = r#"{"level":"debug","msg":"PID attested to have selectors","pid":12,"selectors":[{"type":"unix","value":"uid:0"},{"type":"docker","value":"label:a:x\"y\n\\z é"}],"subsystem_name":"workload_attestor","time":"2026-11-28T13:00:00Z"}"#;
        let expected = attested(12, &["unix:uid:0", "docker:label:a:x\"y\n\\z é"]);
        for prefix in ["", "Nov 28 13:00:00 node spire-agent[12]: ", "2026-11-28T13:00:00Z stdout F "] {
            assert_eq!(event(&format!("{prefix}{text}")), expected);
            assert_eq!(event(&format!("{prefix}{json}")), expected);
        }
    }

    #[test]
    fn a_failure_and_a_start_name_the_plugin() {
        let text = r#"time="x" level=error msg="workload attestor \"docker_shadow\" failed" error="rpc error: code = Unavailable" pid=12 subsystem_name=workload_attestor"#;
        let failed = Event::Failed {
            pid: Some(12),
            plugin: "docker_shadow".to_owned(),
            error: "rpc error: code = Unavailable".to_owned(),
        };
        assert_eq!(event(text), Ok(Some(failed)));
        let text = r#"time="x" level=info msg="Plugin loaded" external=true plugin_name=docker_shadow plugin_type=WorkloadAttestor subsystem_name=catalog"#;
        assert_eq!(event(text), Ok(Some(Event::Loaded { plugin: "docker_shadow".to_owned() })));
    }

    /// Anyone who starts a container chooses its labels.
    #[test]
    fn a_label_that_looks_like_the_other_form_hides_no_line() {
        let value = "label:note:x msg=y {\"msg\":\"z\"}";
        let json = serde_json::json!({
            "msg": "PID attested to have selectors", "pid": 7, "selectors": [{"type": "docker", "value": value}],
        });
        let attested = |line: &str| match event(line) {
            Ok(Some(Event::Attested { pid, selectors })) => Some((pid, selectors)),
            _ => None,
        };
        let expected = Some((Some(7), vec![format!("docker:{value}")]));
        assert_eq!(attested(&json.to_string()), expected);
        let list = format!("[type:\"docker\" value:{value:?}]");
        let text = format!("time=\"t\" level=debug msg=\"PID attested to have selectors\" pid=7 selectors={list:?}");
        assert_eq!(attested(&text), expected);
    }

    #[test]
    fn other_lines_say_nothing_and_broken_ones_are_noticed() {
        let empty = r#"level=debug msg="PID attested to have selectors" pid=12 selectors="[]""#;
        assert_eq!(event(empty), attested(12, &[]));
        for other in ["", "x", "msg=", "{\"msg\":\"y\"}", r#"level=debug msg="Fetched X.509 SVID" count=1"#] {
            assert_eq!(event(other), Ok(None), "{other}");
        }
        for broken in [
            r#"msg="PID attested to have selectors" pid=12 selectors="[type:\"unix\" val"#,
            r#"msg="PID attested to have selectors" pid=12 selectors="[type:\"unix\" <nil>]""#,
            r#"msg="PID attested to have selectors" pid=x"#,
            r#"{"msg":"PID attested to have selectors","selectors":3}"#,
            r#"{"msg":"PID attested to have selectors","selectors":["#,
            r#"msg="PID attested to have selectors" selectors="[type:\"\\q\"]""#,
        ] {
            assert_eq!(event(broken), Err(Unreadable), "{broken}");
        }
    }
}
