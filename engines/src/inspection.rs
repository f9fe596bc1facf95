//! What a body gave and what was left: which series fed which field, which are missing, which were not looked at. For people who ask why
//! a field is absent; scraping does not need it.

use std::collections::BTreeSet;

use crate::custom::Mapping;
use crate::documents;
use crate::error::ReadError;
use crate::exposition::{Exposition, Item};
use crate::families::{self, Family};
use crate::reader::{BodyReader, Reading};
use crate::sample::Engine;

/// One body, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    /// The engine recognised; `None` where the user's word had to stand for it.
    pub engine: Option<Engine>,
    /// Metric generation of the engine.
    pub generation: String,
    /// What a scrape makes of the same body: sample, missing series by their newest names, and the flag that gives them.
    pub reading: Reading,
    /// The fields that are filled, each with the series that fed it; those that labels fed come last.
    pub fields: Vec<FieldSource>,
    /// Families that fed nothing, by name.
    pub ignored: Vec<Family>,
}

/// The series behind one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSource {
    /// Name of the field as in the JSON form of a sample, for example `latency.timeToFirstToken`.
    pub field: &'static str,
    /// Names of the series, without labels, each once; of a JSON body its keys.
    pub names: Vec<String>,
    /// Sample lines that were folded into the field.
    pub series: usize,
}

/// Which series fed a field, as numbers of the mapped values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldValues {
    pub(crate) field: &'static str,
    pub(crate) values: Vec<u32>,
}

/// Takes one body apart. `forced` is the engine that the user named.
///
/// # Errors
///
/// The same as [`BodyReader::read`].
pub fn inspect(forced: Option<Engine>, body: &[u8]) -> Result<Inspection, ReadError> {
    inspect_by(BodyReader::new(forced), body)
}

/// Takes the body of a server apart whose series the user maps.
///
/// # Errors
///
/// The same as [`BodyReader::read`].
pub fn inspect_custom(mapping: Mapping, body: &[u8]) -> Result<Inspection, ReadError> {
    inspect_by(BodyReader::custom(mapping), body)
}

fn inspect_by(reader: BodyReader, body: &[u8]) -> Result<Inspection, ReadError> {
    let mut reader = reader.that_keeps_any();
    let reading = reader.read(body)?;
    let unescaped: Option<String> = match body.trim_ascii_start().first() {
        Some(b'"') => serde_json::from_slice(body).ok(),
        _ => None,
    };
    let text = unescaped.as_ref().map_or(body, String::as_bytes);
    let (mapped, all) = names(&reader, text);
    let mut fields = Vec::new();
    for source in reader.field_values() {
        let names: BTreeSet<&str> = source
            .values
            .iter()
            .filter_map(|&value| mapped.get(value as usize).map(String::as_str))
            .collect();
        fields.push(FieldSource {
            field: source.field,
            series: source.values.len(),
            names: names.into_iter().map(str::to_owned).collect(),
        });
    }
    for (field, name) in reader.label_fields() {
        fields.push(FieldSource {
            field,
            names: vec![name.to_owned()],
            series: all.iter().filter(|other| *other == name).count(),
        });
    }
    if fields.is_empty() {
        fields = documents::sources(&reading.sample);
    }
    let used = fields
        .iter()
        .flat_map(|source| &source.names)
        .map(String::as_bytes)
        .collect();
    let ignored = families::without(text, &used);
    Ok(Inspection {
        engine: reading.sample.engine,
        generation: reading.sample.generation.clone(),
        fields,
        ignored,
        reading,
    })
}

/// The names of the mapped series in their order, and of all.
fn names(reader: &BodyReader, text: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut exposition = Exposition::new(text);
    let mut all = Vec::new();
    while let Ok(Some(item)) = exposition.next_item() {
        if let Item::Sample(sample) = item {
            all.push(String::from_utf8_lossy(sample.name).into_owned());
        }
    }
    let mapped = reader
        .mapped_series()
        .filter_map(|series| all.get(series).cloned())
        .collect();
    (mapped, all)
}
