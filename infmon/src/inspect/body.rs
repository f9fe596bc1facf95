//! What a body shows, and why another shows nothing. Pure: bytes in, findings or a failure out.

use super::failure::Failure;
use super::families;
use super::fields::Fields;
use super::text::View;
use super::way::Way;
use infmon_engines::{ReadError, inspect};
use serde::de::IgnoredAny;

/// Characters of a faulty line that are shown.
const LINE_LIMIT: usize = 100;

/// Takes a body apart as the product does. `name` is where it comes from.
pub(crate) fn look(name: &str, body: &[u8], way: &Way) -> Result<View, Failure> {
    let inspection = way.inspect(body).map_err(|error| failure(name, body, way, &error))?;
    let view = View::new(name.to_owned(), inspection);
    // The product takes the user's word for the engine of a text and says which series are missing; here nothing would be shown.
    if let Way::Engine(engine) = way
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
    Ok(view)
}

fn failure(name: &str, body: &[u8], way: &Way, error: &ReadError) -> Failure {
    match error {
        ReadError::Malformed { line, .. } => Failure::Malformed(match json_fault(body) {
            Some(fault) => format!("{name}: neither Prometheus text nor JSON: {fault}"),
            None => format!("{name}: {error}{}", shown_line(body, *line)),
        }),
        ReadError::Json { .. } if json_fault(body).is_some() => Failure::Malformed(format!(
            "{name}: not complete JSON: {}",
            json_fault(body).unwrap_or_default()
        )),
        ReadError::UnknownEngine { .. } | ReadError::NoMappedSeries { .. } => {
            Failure::NotAServer(format!("{name}: {error}. It has {}", families::counted(body)))
        }
        ReadError::WrongEngine { found, .. } => {
            let named = way.engine().map_or("another engine", |engine| engine.as_str());
            let (option, next) = match way {
                Way::Custom(_) => ("--mapping", "leave --mapping out"),
                _ => ("--engine", "leave --engine out"),
            };
            Failure::NotAServer(format!(
                "{name}: {option} names {named}, and the metrics are those of {found}: {next}"
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
