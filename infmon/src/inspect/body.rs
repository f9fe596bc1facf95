//! What a body shows, and why another shows nothing. Pure: bytes in, findings or a failure out.

use super::failure::Failure;
use super::families;
use super::fields::Fields;
use super::text::View;
use infmon_engines::{BodyReader, Engine, ReadError, inspect};
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// Characters of a faulty line that are shown.
const LINE_LIMIT: usize = 100;

/// Takes a body apart as the product does. `name` is where it comes from.
pub(crate) fn look(name: &str, body: &[u8], forced: Option<Engine>) -> Result<View, Failure> {
    let inspection = inspect(forced, body).map_err(|error| failure(name, body, forced, &error))?;
    let mut view = View::new(name.to_owned(), inspection);
    // The product takes the user's word for the engine of a text and says which series are missing; here nothing would be shown.
    if let Some(engine) = forced
        && Fields::of(&view.sample).is_empty()
        && !is_json(body)
        && inspect(None, body).is_err()
    {
        return Err(Failure::NotAServer(format!(
            "{name}: no series of {}, which --engine names: {}. It has {}",
            engine.as_str(),
            view.next.join("; "),
            families::counted(body)
        )));
    }
    add_sources(&mut view, body);
    Ok(view)
}

/// Finds where the fields come from that no value of a series feeds.
fn add_sources(view: &mut View, body: &[u8]) {
    let text = text(body);
    for field in view.fields_without_source() {
        if is_json(body) {
            view.fed(field, "this JSON body");
        } else if let Some(name) = fed_by_labels(view.sample.engine, field, &text) {
            view.fed(field, &name);
        }
    }
    if !is_json(body) {
        view.ignored = families::without(&text, &view.sources);
    }
}

/// The series in whose labels a field stands, which is that without which the field is not told.
fn fed_by_labels(engine: Option<Engine>, field: &str, text: &[u8]) -> Option<String> {
    let infos = families::without(text, &[]).into_iter().map(|family| family.name);
    infos.filter(|name| name.ends_with("_info")).find(|name| {
        let is_of_it = |line: &[u8]| {
            line.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"{"))
        };
        let rest: Vec<u8> = text
            .split_inclusive(|&b| b == b'\n')
            .filter(|line| !is_of_it(line))
            .flatten()
            .copied()
            .collect();
        let reading = BodyReader::new(engine).read(&rest);
        reading.is_ok_and(|reading| Fields::of(&reading.sample).get(field).is_none())
    })
}

/// The exposition in a body: some llama-servers sent it as one JSON string.
fn text(body: &[u8]) -> Cow<'_, [u8]> {
    let escaped = body.trim_ascii_start().starts_with(b"\"");
    let unescaped = escaped.then(|| serde_json::from_slice::<String>(body).ok()).flatten();
    unescaped.map_or(Cow::Borrowed(body), |text| Cow::Owned(text.into_bytes()))
}

fn failure(name: &str, body: &[u8], forced: Option<Engine>, error: &ReadError) -> Failure {
    match error {
        ReadError::Malformed { line, .. } => Failure::Malformed(match json_fault(body) {
            Some(fault) => format!("{name}: neither Prometheus text nor JSON: {fault}"),
            None => format!("{name}: {error}{}", shown_line(body, *line)),
        }),
        ReadError::Json { .. } if json_fault(body).is_some() => Failure::Malformed(format!(
            "{name}: not complete JSON: {}",
            json_fault(body).unwrap_or_default()
        )),
        ReadError::UnknownEngine { .. } => {
            Failure::NotAServer(format!("{name}: {error}. It has {}", families::counted(body)))
        }
        ReadError::WrongEngine { found, .. } => {
            let named = forced.map_or("another engine", Engine::as_str);
            Failure::NotAServer(format!(
                "{name}: --engine names {named}, and the metrics are those of {found}: leave --engine out"
            ))
        }
        // Whatever else there is to say of a body that can be read.
        _ => Failure::NotAServer(format!("{name}: {error}")),
    }
}

/// True where the body begins as a JSON document does. One string is the text of an exposition.
pub(crate) fn is_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Where a body that begins as JSON does ceases to be JSON.
fn json_fault(body: &[u8]) -> Option<String> {
    (is_json(body) || body.trim_ascii_start().starts_with(b"\"")).then_some(())?;
    let error = serde_json::from_slice::<IgnoredAny>(body).err()?;
    Some(error.to_string())
}

/// The line, one line below, as far as it can be shown on a terminal.
fn shown_line(body: &[u8], line: usize) -> String {
    let text = body.split(|&b| b == b'\n').nth(line.saturating_sub(1));
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let mut shown: String = text
        .trim()
        .chars()
        .take(LINE_LIMIT)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.trim().chars().count() > LINE_LIMIT {
        shown.push('…');
    }
    if shown.is_empty() {
        shown
    } else {
        format!("\n  {line} | {shown}")
    }
}
