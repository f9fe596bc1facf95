//! Whether the product finds what others find.

use std::fmt;

use infmon_engines::BodyReader;
use infmon_engines::exposition::{MAX_LABELS, MAX_NAME_BYTES, parse_value};

use crate::prometheus::{Found, Series};
use crate::reference;

/// A body that is read in two ways.
#[derive(Debug)]
pub struct Difference {
    /// Who reads it otherwise.
    pub with: &'static str,
    /// Both readings, as far as they differ.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "otherwise than {}: {}", self.with, self.what)
    }
}

/// What Prometheus accepts the product accepts, and finds the same series in it, up to the bounds of the product. What only the product
/// accepts is no difference: it also takes carriage returns, signed timestamps and exemplars in the older format.
///
/// # Errors
///
/// With the first difference.
pub fn compare(body: &[u8], found: &Found) -> Result<(), Difference> {
    let ours = reference::series_of_product(body);
    let accepted = [
        ("textparse", &found.text),
        ("textparse for OpenMetrics", &found.openmetrics),
    ];
    for (with, theirs) in accepted {
        let Ok(theirs) = theirs else { continue };
        if beyond_bounds(body, theirs) {
            continue;
        }
        if ours.iter().flatten().any(has_odd_bound) {
            continue;
        }
        let theirs: Vec<Series> = theirs.iter().map(normal).collect();
        let Some(ours) = &ours else {
            return Err(Difference {
                with,
                what: format!("refused; accepted there with {} series", theirs.len()),
            });
        };
        let ours: Vec<Series> = ours.iter().map(as_prometheus).collect();
        if ours != theirs {
            let first = (0..).find(|&at| ours.get(at) != theirs.get(at)).unwrap_or_default();
            return Err(Difference {
                with,
                what: format!(
                    "series {first} is {}, there {}",
                    text(ours.get(first)),
                    text(theirs.get(first))
                ),
            });
        }
    }
    Ok(())
}

/// The product reads a body as the slow parser of its tests does, and `reader`, with whatever it remembers, as one that remembers nothing.
///
/// # Errors
///
/// With the first difference.
pub fn compare_with_reference(body: &[u8], reader: &mut BodyReader) -> Result<(), Difference> {
    let (ours, theirs) = (reference::series_of_product(body), reference::series(body));
    if ours != theirs {
        return Err(Difference {
            with: "the reference",
            what: format!(
                "{:?} series, there {:?}",
                ours.map(|all| all.len()),
                theirs.map(|all| all.len())
            ),
        });
    }
    let (remembering, fresh) = (reader.read(body), BodyReader::new(None).read(body));
    if remembering != fresh {
        return Err(Difference {
            with: "without a remembered layout",
            what: format!("{remembering:?}, there {fresh:?}"),
        });
    }
    Ok(())
}

/// Prometheus has no bound on names and labels, takes an empty name and one that is no UTF-8, needs no blank between a name and its value (`up-2`), ends its
/// reading at a zero byte, and looks for the quote that ends a name in a comment on the lines after it, whose samples it loses.
fn beyond_bounds(body: &[u8], theirs: &[Series]) -> bool {
    let large = |(labels, _): &Series| {
        let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
        labels.len() > MAX_LABELS
            || !labels.iter().all(|(name, value)| is_text(name) && is_text(value))
            || labels
                .iter()
                .any(|(name, value)| name.len() > MAX_NAME_BYTES || value.len() > MAX_NAME_BYTES)
            || !labels
                .iter()
                .any(|(name, value)| name == b"__name__" && !value.is_empty())
            || labels.iter().filter(|(name, _)| name == b"__name__").count() > 1
    };
    body.contains(&0) || is_glued(body) || has_open_name(body) || theirs.iter().any(large)
}

/// Prometheus writes bounds anew that only Go takes for numbers: `1_000`, `0x1p-2`.
fn has_odd_bound((_, labels, _): &reference::Series) -> bool {
    labels
        .iter()
        .filter(|(name, _)| name == b"le" || name == b"quantile")
        .any(|(_, value)| value.contains(['_', 'x', 'X']))
}

fn is_glued(body: &[u8]) -> bool {
    body.split(|&b| b == b'\n').any(|line| {
        let after = line
            .trim_ascii_start()
            .iter()
            .find(|&&b| !(b.is_ascii_alphanumeric() || b == b'_' || b == b':'));
        matches!(after, Some(b'+' | b'-' | b'.'))
    })
}

fn has_open_name(body: &[u8]) -> bool {
    body.split(|&b| b == b'\n').any(|line| {
        let comment = line
            .trim_ascii_start()
            .strip_prefix(b"#")
            .unwrap_or_default()
            .trim_ascii_start();
        let word = [b"HELP".as_slice(), b"TYPE"]
            .into_iter()
            .find_map(|word| comment.strip_prefix(word));
        let name = word.and_then(|rest| rest.trim_ascii_start().strip_prefix(b"\""));
        name.is_some_and(|name| {
            let mut escaped = false;
            !name.iter().any(|&b| {
                let ends = b == b'"' && !escaped;
                escaped = b == b'\\' && !escaped;
                ends
            })
        })
    })
}

/// A series of the product in the words of Prometheus: the name is a label, and labels are sorted.
fn as_prometheus((name, labels, bits): &reference::Series) -> Series {
    let mut all = vec![(b"__name__".to_vec(), unescaped(name))];
    all.extend(
        labels
            .iter()
            .map(|(name, value)| (unescaped(name), value.clone().into_bytes())),
    );
    normal(&(all, *bits))
}

/// Bounds as numbers, since Prometheus writes `1` as `1.0`; no empty labels, which are none there.
fn normal((labels, bits): &Series) -> Series {
    let mut labels: Vec<(Vec<u8>, Vec<u8>)> = labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| match parse_value(value) {
            Some(number) if name == b"le" || name == b"quantile" => {
                (name.clone(), reference::bits(number + 0.0).to_le_bytes().to_vec())
            }
            // Prometheus counts blanks before a name as part of it.
            _ if name == b"__name__" => (name.clone(), value.trim_ascii_start().to_vec()),
            _ => (name.clone(), value.clone()),
        })
        .collect();
    labels.sort();
    (labels, reference::bits(f64::from_bits(*bits)))
}

/// Escapes in quoted names, which the product leaves as they are.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut bytes = name.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(&next @ (b'\\' | b'"'))) => Some(next),
            _ => None,
        };
        if escaped.is_some() {
            bytes.next();
        }
        text.push(escaped.unwrap_or(byte));
    }
    text
}

fn text(series: Option<&Series>) -> String {
    series.map_or_else(
        || "missing".to_owned(),
        |(labels, bits)| {
            let labels = labels
                .iter()
                .map(|(name, value)| (name.escape_ascii().to_string(), value.escape_ascii().to_string()));
            format!("{:?} {}", labels.collect::<Vec<_>>(), f64::from_bits(*bits))
        },
    )
}
