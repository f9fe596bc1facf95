//! The JSON form of a sample, for people and programs: a field per line, lists on one line, whole numbers without `.0`.

use infmon_engines::EngineSample;
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// The largest number below which every whole number is exact; above it, the shortest form that reads back as the same is written.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A sample as JSON, with a line end.
///
/// # Errors
/// When a value has no JSON form; a sample has none such.
pub(crate) fn of(sample: &EngineSample) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    sample.serialize(&mut Serializer::with_formatter(&mut out, Layout::default()))?;
    out.push(b'\n');
    Ok(out)
}

/// Objects over several lines, everything else on one.
#[derive(Debug, Default)]
struct Layout {
    depth: usize,
}

impl Layout {
    fn new_line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for Layout {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < EXACT {
            // Also turns -0 into 0.
            CompactFormatter.write_i64(writer, value as i64)
        } else {
            CompactFormatter.write_f64(writer, value)
        }
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        self.new_line(writer)?;
        writer.write_all(b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.new_line(writer)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infmon_engines::{Engine, Histogram, Latency};

    #[test]
    fn whole_numbers_have_no_fraction_and_lists_stand_on_one_line() {
        let sample = EngineSample {
            engine: Some(Engine::Vllm),
            models: vec!["a".into(), "b".into()],
            waiting: Some(0.0),
            kv_cache_usage: Some(0.25),
            prompt_tokens_total: Some(3_214_570.0),
            generated_tokens_total: Some(1e300),
            sleeping: Some(false),
            latency: Latency {
                queue_time: Some(Histogram {
                    count: 2.0,
                    sum_seconds: 1.0,
                    buckets: vec![(Some(0.5), 1.0), (Some(1.0), 2.0), (None, 2.0)],
                }),
                ..Latency::default()
            },
            ..EngineSample::default()
        };
        let expected = r#"{
  "engine": "VLLM",
  "models": ["a", "b"],
  "waiting": 0,
  "kvCacheUsage": 0.25,
  "promptTokensTotal": 3214570,
  "generatedTokensTotal": 1e+300,
  "sleeping": false,
  "latency": {
    "queueTime": {
      "count": 2,
      "sumSeconds": 1,
      "buckets": [[0.5, 1], [1, 2], [null, 2]]
    }
  }
}
"#;
        assert_eq!(String::from_utf8(of(&sample).unwrap()).unwrap(), expected);
    }
}
