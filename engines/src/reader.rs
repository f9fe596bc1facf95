//! From the body of one target to a reading, scrape after scrape.

use crate::custom::Mapping;
use crate::detect::{Detection, Product, detect};
use crate::documents;
use crate::error::ReadError;
use crate::exposition::{Exposition, Item, MAX_SERIES};
use crate::inspection::FieldValues;
use crate::json;
use crate::layout::{Draft, Layout, TEXT_LIMIT, Use};
use crate::mapper::Mapper;
use crate::sample::{Engine, EngineSample};

/// What one body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The server's state, as far as the body tells it.
    pub sample: EngineSample,
    /// The series that conditions need and the body lacks, by their newest names; a note in parentheses where the series is there but its
    /// value is not usable.
    pub missing: Vec<String>,
    /// What to do about [`missing`](Self::missing). When nothing is, what servers of this kind can never tell; empty where that is nothing.
    pub hint: String,
}

/// Reads the bodies of one target. It keeps the layout of the last body: one reader per target, used for each of its scrapes.
#[derive(Clone, Debug, Default)]
pub struct BodyReader {
    forced: Option<Engine>,
    /// Empty but for [`Engine::Custom`].
    mapping: Mapping,
    layout: Option<Layout>,
    from_layout: bool,
    /// Large bodies keep their layout too.
    keeps_any: bool,
}

impl BodyReader {
    /// A reader that has seen no body. `forced` is the engine that the user named; `None` tells it from the content.
    #[must_use]
    pub fn new(forced: Option<Engine>) -> Self {
        Self {
            forced,
            ..Self::default()
        }
    }

    /// The same for a server whose series the user maps: [`Engine::Custom`].
    #[must_use]
    pub fn custom(mapping: Mapping) -> Self {
        Self {
            mapping,
            ..Self::new(Some(Engine::Custom))
        }
    }

    /// One for a single body, whose layout tells what fed its fields however large it is.
    pub(crate) fn that_keeps_any(self) -> Self {
        Self {
            keeps_any: true,
            ..self
        }
    }

    /// The same reader before its first body.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self {
            forced: self.forced,
            mapping: self.mapping.clone(),
            layout: None,
            from_layout: false,
            keeps_any: self.keeps_any,
        }
    }

    /// True when the last body was read by comparing its layout, without a full parse.
    #[must_use]
    pub const fn read_from_layout(&self) -> bool {
        self.from_layout
    }

    /// Which values fed which field of the last body; empty before the first, and for a body too large to keep its layout.
    pub(crate) fn field_values(&self) -> Vec<FieldValues> {
        self.layout
            .as_ref()
            .map_or_else(Vec::new, |layout| layout.plan().field_values())
    }

    /// The fields of the last body that labels fed, with the series whose labels these are.
    pub(crate) fn label_fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.layout.iter().flat_map(|layout| layout.plan().label_fields())
    }

    /// The numbers of the series of the last body that are mapped, in the order of their values.
    pub(crate) fn mapped_series(&self) -> impl Iterator<Item = usize> {
        self.layout.iter().flat_map(Layout::mapped_series)
    }

    /// Reads a metrics body. The same body gives the same result whatever was read before.
    ///
    /// # Errors
    ///
    /// When the body is not an exposition of an engine that can be read; see [`ReadError`]. Series that are missing are no error.
    pub fn read(&mut self, body: &[u8]) -> Result<Reading, ReadError> {
        let mut reading = Reading::default();
        self.read_into(body, &mut reading)?;
        Ok(reading)
    }

    /// The same into the place and the memory of an earlier reading: while the values alone change, nothing is allocated.
    ///
    /// # Errors
    ///
    /// The same as [`read`](Self::read); `reading` is as it was then.
    pub fn read_into(&mut self, body: &[u8], reading: &mut Reading) -> Result<(), ReadError> {
        self.from_layout = false;
        // llama.cpp of November 2025 (about b7010, issue 17384) sent the whole exposition as one JSON string.
        if body.trim_ascii_start().first() == Some(&b'"') {
            return match serde_json::from_slice::<String>(body) {
                Ok(text) => self.read_text(text.as_bytes(), reading),
                Err(_) => Err(ReadError::Json {
                    what: "a string that does not end".to_owned(),
                }),
            };
        }
        self.read_text(body, reading)
    }

    fn read_text(&mut self, body: &[u8], reading: &mut Reading) -> Result<(), ReadError> {
        let known = self.layout.as_mut().and_then(|layout| layout.read_into(body, reading));
        if known.is_some() {
            self.from_layout = true;
            return Ok(());
        }
        *reading = self.read_unknown(body)?;
        Ok(())
    }

    /// Reads a body whose layout is not that of the last one.
    fn read_unknown(&mut self, body: &[u8]) -> Result<Reading, ReadError> {
        match body.trim_ascii_start().first() {
            None => return Err(ReadError::Empty),
            // A brace may also begin a sample with a quoted name.
            Some(b'{' | b'[') if json::is_json(body) => return documents::read(body, self.forced),
            Some(b'<') => {
                return Err(ReadError::Malformed {
                    line: 1,
                    reason: "this is an HTML page".to_owned(),
                });
            }
            Some(_) => {}
        }
        self.parse(body)
    }

    fn parse(&mut self, body: &[u8]) -> Result<Reading, ReadError> {
        let detection = if self.forced == Some(Engine::Custom) {
            // The user's word stands, whatever the names look like.
            Detection::default()
        } else {
            detect(body)
        };
        let found = detection.product.and_then(Product::engine);
        let mut mapper = Mapper::new(self.forced, found, &self.mapping);
        // A line of a server's body has 100 bytes or more.
        let about = (body.len() / 100).min(MAX_SERIES);
        let kept = self.keeps_any || body.len() <= TEXT_LIMIT;
        let mut draft = if kept { Draft::new(body, about) } else { None };
        let mut values = Vec::with_capacity(about);
        let mut any = false;
        let mut exposition = Exposition::new(body);
        while let Some(item) = exposition.next_item()? {
            match item {
                Item::Family(name) => {
                    any = true;
                    mapper.family(name);
                }
                Item::Sample(sample) => {
                    any = true;
                    let number = u32::try_from(values.len()).map_err(|_| ReadError::TooManySeries)?;
                    let used = mapper.sample(&sample, number);
                    if used != Use::Ignored {
                        values.push(sample.value);
                    }
                    if let Some(draft) = &mut draft {
                        draft.value(&sample.value_at, used, number);
                    }
                }
            }
        }
        if !any {
            return Err(ReadError::Empty);
        }
        if let Some(error) = mapper.not_mapped() {
            return Err(error);
        }
        let other = match (self.forced, found) {
            // Names without a prefix and those of Triton's backends are read by several engines.
            (Some(forced), Some(found)) => !Mapper::fits(forced, found) && (is_shared(found) || !mapper.recognised()),
            _ => !mapper.recognised(),
        };
        if other {
            match (self.forced, detection.product) {
                (Some(expected), Some(product)) => {
                    return Err(ReadError::WrongEngine {
                        expected,
                        found: product.name().to_owned(),
                    });
                }
                (None, product) => {
                    return Err(ReadError::UnknownEngine {
                        seen: detection.seen,
                        looks_like: product.map(Product::name),
                    });
                }
                // The user's word stands: the reading says which series are missing and what to do.
                (Some(_), None) => {}
            }
        }
        let plan = mapper.finish();
        values.shrink_to_fit();
        let mut reading = Reading::default();
        plan.read_into(&values, &mut reading);
        self.layout = draft.map(|draft| draft.finish(values, plan));
        Ok(reading)
    }
}

/// True for engines whose names another one reads too.
const fn is_shared(engine: Engine) -> bool {
    matches!(engine, Engine::Triton | Engine::Nim | Engine::TensorRtLlm)
}
