//! What a body shows, for people: each field with its series, what is missing, what was not looked at. Pure: findings in, text out.

use super::families::plural;
use super::fields::{Fields, NAMES};
use crate::table;
use infmon_engines::{Absence, EngineSample, Family, FieldSource, Inspection, Reading, why_absent};
use serde_json::Value;
use std::fmt::Write as _;

/// Widest that a line of the list of ignored families gets.
const WIDTH: usize = 118;
/// Longer values are cut.
const VALUE_WIDTH: usize = 60;

/// A body, and what came from beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Where the body comes from.
    pub(crate) name: String,
    /// What the product makes of it.
    pub(crate) sample: EngineSample,
    /// The series behind the fields.
    pub(crate) sources: Vec<FieldSource>,
    /// Series that conditions need, and that are not there.
    pub(crate) missing: Vec<String>,
    /// What servers of this kind can never tell; empty where that is nothing, or something is missing.
    pub(crate) limits: String,
    /// What to do about what is missing, and about a second body that is not there.
    pub(crate) next: Vec<String>,
    /// Families that fed nothing.
    pub(crate) ignored: Vec<Family>,
}

impl View {
    /// Takes the view of one body.
    pub(crate) fn new(name: String, inspection: Inspection) -> Self {
        let Reading { sample, missing, hint } = inspection.reading;
        let (limits, next) = match missing.as_slice() {
            [] => (hint, String::new()),
            _ => (String::new(), hint),
        };
        Self {
            name,
            sample,
            sources: inspection.fields,
            missing,
            limits,
            next: Some(next).filter(|next| !next.is_empty()).into_iter().collect(),
            ignored: inspection.ignored,
        }
    }

    /// Says that `source` alone feeds `field`.
    pub(crate) fn fed(&mut self, field: &'static str, source: &str) {
        self.sources.retain(|other| other.field != field);
        self.sources.push(FieldSource {
            field,
            names: vec![source.to_owned()],
            series: 1,
        });
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.heading();
        text.push('\n');
        self.fields(&mut text);
        text.push('\n');
        if !self.missing.is_empty() {
            wrapped(&mut text, "Missing: ", &self.missing);
        }
        if !self.limits.is_empty() {
            let lines = table::wrapped(&self.limits, WIDTH - "Limits: ".len());
            let _ = writeln!(text, "Limits: {}", lines.join("\n        "));
        }
        for next in &self.next {
            let lines = table::wrapped(next, WIDTH - "Next: ".len());
            let _ = writeln!(text, "Next: {}", lines.join("\n      "));
        }
        self.absent(&mut text);
        self.ignored(&mut text);
        text
    }

    fn heading(&self) -> String {
        let engine = self.sample.engine.map_or("unknown engine", |engine| engine.as_str());
        let mut heading = format!("{}: {engine}", self.name);
        if !self.sample.generation.is_empty() {
            let _ = write!(heading, " {}", self.sample.generation);
        }
        match self.sample.models.as_slice() {
            [] => {}
            [model] => {
                let _ = write!(heading, ", model {}", clean(model));
            }
            models => {
                let models: Vec<String> = models.iter().map(|model| clean(model)).collect();
                let _ = write!(heading, ", models {}", models.join(", "));
            }
        }
        heading.push('\n');
        heading
    }

    fn fields(&self, text: &mut String) {
        let fields = Fields::of(&self.sample);
        let rows: Vec<(&str, String, String)> = NAMES
            .into_iter()
            .filter_map(|name| {
                let source = self.sources.iter().find(|source| source.field == name);
                let value = match fields.get(name) {
                    Some(Value::Object(reasons)) if name == "requestOutcomes" => shown_reasons(reasons),
                    Some(value) => shown(value),
                    // An empty list of adapters is a value: none is loaded.
                    None if name == "loraAdapters" && source.is_some() => "none".to_owned(),
                    None if source.is_some() => "not usable".to_owned(),
                    None => return None,
                };
                let per_copy = fields.get(name).map_or(1, series_of_one);
                let series = source.map(|source| series(source, per_copy)).unwrap_or_default();
                Some((name, value, series))
            })
            .collect();
        if rows.is_empty() {
            text.push_str("No field is told.\n");
            return;
        }
        let name_width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max(5);
        let value_width = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0).max(5);
        let mut row = |name: &str, value: &str, series: &str| {
            let line = format!("{name:<name_width$}  {value:<value_width$}  {series}");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        row("FIELD", "VALUE", "SERIES");
        for (name, value, series) in &rows {
            row(name, value, series);
        }
    }

    /// Fields that nothing in the body feeds, those with one reason together.
    fn absent(&self, text: &mut String) {
        let fields = Fields::of(&self.sample);
        let mut unexplained = Vec::new();
        let mut explained: Vec<(Absence, Vec<&str>)> = Vec::new();
        for name in NAMES {
            if fields.get(name).is_some() || self.sources.iter().any(|source| source.field == name) {
                continue;
            }
            match why_absent(&self.sample, name) {
                None => unexplained.push(name.to_owned()),
                Some(why) => match explained.iter_mut().find(|(other, _)| *other == why) {
                    Some((_, names)) => names.push(name),
                    None => explained.push((why, vec![name])),
                },
            }
        }
        // What can be had comes first.
        explained.sort_by_key(|(why, _)| *why == Absence::Never);
        if unexplained.is_empty() && !explained.is_empty() {
            text.push_str("Absent:\n");
        } else if !unexplained.is_empty() {
            wrapped(text, "Absent: ", &unexplained);
        }
        let engine = self
            .sample
            .engine_behind()
            .map_or("the server", |engine| engine.as_str());
        for (why, names) in explained {
            let names = names.join(", ");
            let line = match why {
                Absence::Given(words) => format!("{names}: {words}"),
                Absence::Never => format!("{names}: not published by {engine}"),
            };
            let lines = table::wrapped(&line, WIDTH - 4);
            let _ = writeln!(text, "  {}", lines.join("\n    "));
        }
    }

    fn ignored(&self, text: &mut String) {
        // Python's client adds to each counter and histogram the time when it began to count.
        let is_time = |family: &&Family| family.name.ends_with("_created");
        let (times, families): (Vec<_>, Vec<_>) = self.ignored.iter().partition(is_time);
        if self.ignored.is_empty() {
            text.push_str("Ignored: nothing\n");
            return;
        }
        let series: usize = families.iter().map(|family| family.series).sum();
        let mut heading = format!(
            "Ignored: {} with {series} series",
            plural(families.len(), "family", "families")
        );
        if !times.is_empty() {
            let times: usize = times.iter().map(|family| family.series).sum();
            let _ = write!(heading, ", and {times} times of creation");
        }
        text.push_str(&heading);
        text.push('\n');
        let names: Vec<String> = families
            .iter()
            .map(|family| format!("{} {}", clean(&family.name), family.series))
            .collect();
        if !names.is_empty() {
            wrapped(text, "  ", &names);
        }
    }
}

/// The series that one rank or process has of a field: those of a histogram are a bucket per bound, a sum and a count; of ends, one per
/// reason.
fn series_of_one(value: &Value) -> usize {
    let buckets = value.get("buckets").and_then(Value::as_array);
    let reasons = value.as_object().map(serde_json::Map::len);
    buckets.map(|buckets| buckets.len() + 2).or(reasons).unwrap_or(1)
}

/// The names behind a field, and how many copies they have where that is not one.
fn series(source: &FieldSource, per_copy: usize) -> String {
    let names: Vec<String> = source.names.iter().map(|name| clean(name)).collect();
    let mut bases: Vec<&str> = Vec::new();
    for name in &names {
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|_| source.field.starts_with("latency."))
            .unwrap_or(name);
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    let words = bases.join(" + ");
    let copies = source.series / per_copy.max(1);
    if copies > bases.len() {
        format!("{words} ({copies} series)")
    } else {
        words
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => shown_number(number.as_f64()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(Value::as_str).map(clean).collect();
            cut(&items.join(", "))
        }
        Value::Object(histogram) => {
            let number = |name: &str| histogram.get(name).and_then(Value::as_f64);
            let (count, sum) = (number("count"), number("sumSeconds"));
            let mut words = shown_number(count);
            if let (Some(count @ 1.0..), Some(sum)) = (count, sum) {
                let _ = write!(words, ", mean {}", shown_seconds(sum / count));
            }
            words
        }
        Value::Null | Value::String(_) => cut(&clean(&value.to_string())),
    }
}

/// Those that ended some request, the most frequent first.
fn shown_reasons(reasons: &serde_json::Map<String, Value>) -> String {
    let total = |value: &Value| value.as_f64().unwrap_or_default();
    let mut reasons: Vec<(String, f64)> = reasons
        .iter()
        .map(|(reason, value)| (clean(reason), total(value)))
        .collect();
    reasons.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let some: Vec<String> = reasons
        .iter()
        .filter(|(_, total)| *total > 0.0)
        .map(|(reason, total)| format!("{reason} {}", shown_number(Some(*total))))
        .collect();
    if some.is_empty() {
        "0".to_owned()
    } else {
        cut(&some.join(", "))
    }
}

/// Whole numbers as they are, others with the digits that people compare; the JSON has all of them.
fn shown_number(number: Option<f64>) -> String {
    match number {
        Some(number) if number.fract() == 0.0 => number.to_string(),
        Some(number) => {
            // Four digits, wherever they begin: a cache that is used a little is not empty.
            let whole = number.abs().log10().floor().clamp(-12.0, 3.0) as i32;
            let places = usize::try_from(3 - whole).unwrap_or_default();
            let short = format!("{number:.places$}");
            if places == 0 {
                return short;
            }
            short.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        None => String::new(),
    }
}

fn shown_seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A name from a body, fit for a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= VALUE_WIDTH {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(VALUE_WIDTH - 1).collect();
    cut.push('…');
    cut
}

/// Words with commas, on as many lines as it takes; the lines begin below `first`.
fn wrapped(text: &mut String, first: &str, words: &[String]) {
    let mut line = first.to_owned();
    for (number, word) in words.iter().enumerate() {
        let comma = if number + 1 < words.len() { "," } else { "" };
        let length = line.chars().count();
        if length > first.len() && length + word.chars().count() + comma.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(first.len());
        }
        line.push_str(word);
        line.push_str(comma);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_wrapped() {
        let mut text = String::new();
        let words: Vec<String> = (0..30).map(|number| format!("vllm:family_{number} 1")).collect();
        wrapped(&mut text, "  ", &words);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH && line.starts_with("  v")));
        assert_eq!(text.matches("vllm").count(), 30);
    }

    #[test]
    fn times_of_creation_are_no_families() {
        let family = |name: &str| Family {
            name: name.to_owned(),
            series: 2,
        };
        let view = View {
            ignored: vec![family("a_created"), family("a_total"), family("b")],
            ..View::default()
        };
        let text = view.text();
        let end = "Ignored: 2 families with 4 series, and 2 times of creation\n  a_total 2, b 2\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn reasons_that_ended_nothing_are_left_to_the_json() {
        let reasons = |json: &str| shown_reasons(&serde_json::from_str(json).unwrap());
        assert_eq!(
            reasons(r#"{"abort": 0, "length": 3, "stop": 40.0}"#),
            "stop 40, length 3"
        );
        assert_eq!(reasons(r#"{"abort": 0}"#), "0");
    }

    #[test]
    fn numbers_have_the_digits_that_tell() {
        for (number, text) in [
            (0.0, "0"),
            (3_214_570.0, "3214570"),
            (0.437_142_857, "0.4371"),
            (0.000_029_63, "0.00002963"),
            (0.5, "0.5"),
            (12.345_67, "12.35"),
            (123_456.78, "123457"),
        ] {
            assert_eq!(shown_number(Some(number)), text);
        }
    }

    #[test]
    fn what_a_server_names_cannot_write_on_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mb"), "a\u{fffd}[31mb");
    }

    #[test]
    fn a_field_that_is_fed_and_not_known_is_not_usable() {
        let source = |field, name: &str| FieldSource {
            field,
            names: vec![name.to_owned()],
            series: 1,
        };
        let view = View {
            name: "a".into(),
            sources: vec![source("prefixCacheHitRatio", "x"), source("loraAdapters", "y")],
            ..View::default()
        };
        let text = view.text();
        assert!(text.contains("prefixCacheHitRatio  not usable  x\n"), "{text}");
        assert!(text.contains("loraAdapters         none        y\n"), "{text}");
        assert!(!text.split("Absent").nth(1).unwrap().contains("loraAdapters"), "{text}");
    }
}
