//! The mapping of a file: the `spec.custom` of an InferenceMonitor, or that part alone.

use super::failure::Failure;
use super::http::Client;
use super::source::Source;
use crate::schema::{self, Fault};
use crate::yaml::{self, Node};
use infmon_engines::Mapping;
use infmon_evaluation::mapping;

/// Reads the mapping of a file.
///
/// # Errors
/// When it cannot be read, or there is no valid mapping in it; with lines.
pub(super) async fn read(source: &Source) -> Result<Mapping, Failure> {
    let bytes = source.read(&Client::default()).await?;
    let name = source.to_string();
    let text = str::from_utf8(&bytes).map_err(|_| Failure::Mapping(format!("{name}: this is not UTF-8")))?;
    parse(text).map_err(|faults| {
        let lines: Vec<String> = faults
            .into_iter()
            .map(|fault| format!("{name}:{}: {}", fault.line, fault.words))
            .collect();
        Failure::Mapping(lines.join("\n"))
    })
}

fn parse(text: &str) -> Result<Mapping, Vec<Fault>> {
    let documents = yaml::documents(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let words = error.without_snippet().to_string();
        let words = words.lines().next().unwrap_or_default();
        vec![Fault::new(line, format!("this is not YAML: {words}"))]
    })?;
    let found: Vec<(&Node, &str)> = documents.iter().filter_map(custom).collect();
    let (node, path) = match found[..] {
        [found] => found,
        [] => {
            let words =
                "there is no mapping in it: give an InferenceMonitor with spec.custom, or fields: as under spec.custom";
            return Err(vec![Fault::new(1, words)]);
        }
        [_, (second, _), ..] => {
            let words = "this is a second mapping: leave one in the file";
            return Err(vec![Fault::new(second.line, words)]);
        }
    };
    let mut faults = Vec::new();
    schema::check(node, &schema::of_spec()["properties"]["custom"], path, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let custom = serde_json::from_value(node.to_json());
    // The schema was met, so only a difference between schema and types can be told by the first.
    let mapping = custom
        .map_err(|error| error.to_string())
        .and_then(|custom| mapping(&custom));
    mapping.map_err(|words| vec![Fault::new(node.line, words)])
}

/// The part of a document that is a mapping, and what it is called.
fn custom(document: &Node) -> Option<(&Node, &'static str)> {
    if let Some(custom) = document.get("spec").and_then(|spec| spec.get("custom")) {
        return Some((custom, "spec.custom"));
    }
    if let Some(custom) = document.get("custom") {
        return Some((custom, "custom"));
    }
    document.get("fields").map(|_| (document, "custom"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_engines::Field;

    const FIELDS: &str = "fields:\n- {field: Waiting, series: queue}\n- {field: Running, series: active}\n";

    fn words(text: &str) -> Vec<String> {
        let fault = |fault: Fault| format!("{}: {}", fault.line, fault.words);
        parse(text).unwrap_err().into_iter().map(fault).collect()
    }

    #[test]
    fn a_monitor_its_spec_and_the_part_alone_say_the_same() {
        let indented = FIELDS.replace('\n', "\n    ");
        let alone = parse(FIELDS).unwrap();
        assert!(alone.has(Field::Waiting) && alone.has(Field::Running) && !alone.has(Field::KvCacheUsage));
        for text in [
            format!("custom:\n    {indented}"),
            format!("kind: InferenceMonitor\nspec:\n  engine: Custom\n  custom:\n    {indented}"),
            format!("kind: Service\n---\nspec:\n  custom:\n    {indented}"),
        ] {
            assert_eq!(parse(&text).as_ref(), Ok(&alone), "{text}");
        }
    }

    #[test]
    fn faults_have_their_line_and_what_to_change() {
        assert_eq!(
            words("spec:\n  custom:\n    fields:\n    - field: Wating\n      series: queue\n"),
            ["4: spec.custom.fields[0].field is \"Wating\": did you mean Waiting?"]
        );
        assert_eq!(
            words("custom:\n  fields:\n  - {field: Waiting, series: a}\n  - {field: Waiting, series: b}\n"),
            ["2: spec.custom maps Waiting twice: give each field once"]
        );
        assert!(words("fields:\n- {field: Waiting, series: a, unit: Percent}\n")[0].contains("does not fit Waiting"));
        assert!(words("kind: Service\n")[0].starts_with("1: there is no mapping in it"));
        assert!(words(&format!("{FIELDS}---\n{FIELDS}"))[0].contains("a second mapping"));
        assert!(words("fields: [")[0].contains("this is not YAML"));
    }
}
