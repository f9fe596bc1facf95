//! Which series of a server feed which field, as the user says it: plain data, checked when it is made.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::field::{Field, Quantity};

/// Bytes that the name of a series may have.
pub(super) const NAME_BYTES: usize = 128;
/// Labels that one series may be chosen by.
const LABEL_LIMIT: usize = 4;
/// Bytes that the name of a label may have.
const LABEL_NAME_BYTES: usize = 63;
/// Bytes that the value of a label may have.
const LABEL_VALUE_BYTES: usize = 256;
/// Bytes that all texts of a mapping may have. A plan carries one for each of 256 targets, and a message has 4 MiB.
const MAPPING_BYTES: usize = 12 * 1024;

/// The unit in which a server publishes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Of a latency.
    Seconds,
    /// Of a latency.
    Milliseconds,
    /// Of a latency.
    Microseconds,
    /// Of a share: 0 to 1.
    Ratio,
    /// Of a share: 0 to 100.
    Percent,
}

impl Unit {
    /// All units.
    pub const ALL: [Self; 5] = [
        Self::Seconds,
        Self::Milliseconds,
        Self::Microseconds,
        Self::Ratio,
        Self::Percent,
    ];

    /// The name in `spec.custom`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "Seconds",
            Self::Milliseconds => "Milliseconds",
            Self::Microseconds => "Microseconds",
            Self::Ratio => "Ratio",
            Self::Percent => "Percent",
        }
    }

    /// The unit of a name in `spec.custom`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }

    /// What one second, or the whole of a share, is in this unit.
    pub(super) const fn per_unit(self) -> f64 {
        match self {
            Self::Seconds | Self::Ratio => 1.0,
            Self::Milliseconds => 1e3,
            Self::Microseconds => 1e6,
            Self::Percent => 100.0,
        }
    }

    const fn fits(self, quantity: Quantity) -> bool {
        match self {
            Self::Seconds | Self::Milliseconds | Self::Microseconds => matches!(quantity, Quantity::Latency),
            Self::Ratio | Self::Percent => matches!(quantity, Quantity::Ratio),
        }
    }
}

/// How the series that match become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// They are added up.
    Sum,
    /// The greatest counts.
    Max,
}

impl Aggregation {
    /// All aggregations.
    pub const ALL: [Self; 2] = [Self::Sum, Self::Max];

    /// The name in `spec.custom`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Max => "Max",
        }
    }

    /// The aggregation of a name in `spec.custom`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregation| aggregation.as_str() == name)
    }
}

/// The series of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedSeries {
    /// The field that they feed.
    pub field: Field,
    /// The metric name; of a latency the name of the histogram, without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// The label values that they must have; an empty value also means that the label is not there.
    pub labels: BTreeMap<String, String>,
    /// The unit of a latency or a ratio; `None` means seconds and 0 to 1.
    pub unit: Option<Unit>,
    /// How they become one number; `None` means the greatest of a ratio and the sum of others. Latencies are always added up.
    pub aggregation: Option<Aggregation>,
}

/// The series as they are written in a query: `queue_depth{state="queued"}`.
impl fmt::Display for MappedSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (number, (name, value)) in self.labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            write!(f, "{before}{name}={value:?}")?;
        }
        f.write_str(if self.labels.is_empty() { "" } else { "}" })
    }
}

/// Which series of a server feed which field. Cheap to clone: every target of a monitor has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping(Arc<Parts>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    /// In the order of the fields, with unit and aggregation filled in, so that equal meanings are equal.
    series: Vec<MappedSeries>,
    model_label: Option<String>,
}

impl Mapping {
    /// Checks a mapping. `model_label` is the label that names the model.
    ///
    /// # Errors
    ///
    /// When a field is named twice, a unit or an aggregation does not fit its field, or a bound is passed.
    pub fn new(mut series: Vec<MappedSeries>, model_label: Option<String>) -> Result<Self, MappingError> {
        if series.is_empty() {
            return Err(MappingError::Empty);
        }
        series.sort_by_key(|series| series.field);
        if let Some(twice) = series
            .windows(2)
            .find(|pair| matches!(pair, [a, b] if a.field == b.field))
        {
            return Err(MappingError::Twice(
                twice.first().map_or(Field::Waiting, |series| series.field),
            ));
        }
        for series in &mut series {
            check(series)?;
            let quantity = series.field.quantity();
            let (unit, aggregation) = match quantity {
                Quantity::Latency => (Some(Unit::Seconds), None),
                Quantity::Ratio => (Some(Unit::Ratio), Some(Aggregation::Max)),
                Quantity::Gauge | Quantity::Counter => (None, Some(Aggregation::Sum)),
            };
            series.unit = series.unit.or(unit);
            series.aggregation = series.aggregation.or(aggregation);
        }
        if let Some(label) = &model_label
            && (label.is_empty() || label.len() > LABEL_NAME_BYTES)
        {
            return Err(MappingError::ModelLabel);
        }
        let mapping = Self(Arc::new(Parts { series, model_label }));
        match mapping.bytes() {
            bytes if bytes > MAPPING_BYTES => Err(MappingError::TooLarge(bytes)),
            _ => Ok(mapping),
        }
    }

    /// Bytes that its texts have in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = |series: &MappedSeries| {
            let labels = series.labels.iter().map(|(name, value)| name.len() + value.len());
            series.name.len() + labels.sum::<usize>()
        };
        self.0.series.iter().map(texts).sum()
    }

    /// The series, each field once, in the order of the fields.
    #[must_use]
    pub fn series(&self) -> &[MappedSeries] {
        &self.0.series
    }

    /// The label that names the model.
    #[must_use]
    pub fn model_label(&self) -> Option<&str> {
        self.0.model_label.as_deref()
    }

    /// True when nothing is mapped: no mapping was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.series.is_empty()
    }

    /// True when a series is named for the field.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.0.series.iter().any(|series| series.field == field)
    }
}

fn check(series: &MappedSeries) -> Result<(), MappingError> {
    let field = series.field;
    if !Field::MAPPABLE.contains(&field) {
        return Err(MappingError::NotMappable(field));
    }
    if !is_metric_name(series.name.as_bytes()) {
        return Err(MappingError::Name(field));
    }
    let fits = |(name, value): (&String, &String)| {
        !name.is_empty() && name.len() <= LABEL_NAME_BYTES && value.len() <= LABEL_VALUE_BYTES
    };
    if series.labels.len() > LABEL_LIMIT || !series.labels.iter().all(fits) {
        return Err(MappingError::Labels(field));
    }
    let quantity = field.quantity();
    if let Some(unit) = series.unit.filter(|unit| !unit.fits(quantity)) {
        return Err(MappingError::Unit(field, unit));
    }
    if series.aggregation.is_some() && quantity == Quantity::Latency {
        return Err(MappingError::Aggregation(field));
    }
    Ok(())
}

/// A name that needs no quotes.
pub(super) fn is_metric_name(name: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    name.len() <= NAME_BYTES && name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(is_name)
}

/// Why a mapping cannot be used. Its text says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// No field is mapped.
    Empty,
    /// A field is mapped twice.
    Twice(Field),
    /// A field that is no number.
    NotMappable(Field),
    /// The name of a series is none, or too long.
    Name(Field),
    /// Too many labels, or a text of one is too long.
    Labels(Field),
    /// The unit is not one of the field's quantity.
    Unit(Field, Unit),
    /// A latency has an aggregation.
    Aggregation(Field),
    /// The name of the label of the model is none, or too long.
    ModelLabel,
    /// All texts together have so many bytes.
    TooLarge(usize),
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("spec.custom maps no field: give spec.custom.fields at least one"),
            Self::Twice(field) => write!(f, "spec.custom maps {} twice: give each field once", field.as_str()),
            Self::NotMappable(field) => write!(f, "spec.custom cannot map {}: leave it out", field.as_str()),
            Self::Name(field) => write!(
                f,
                "spec.custom: the series of {} must be a metric name: 1 to {NAME_BYTES} letters, digits, '_' and ':', no digit first",
                field.as_str()
            ),
            Self::Labels(field) => write!(
                f,
                "spec.custom: matchLabels of {} may have {LABEL_LIMIT} labels, with names of 1 to {LABEL_NAME_BYTES} bytes and values of \
                 up to {LABEL_VALUE_BYTES}",
                field.as_str()
            ),
            Self::Unit(field, unit) => {
                let fitting = match field.quantity() {
                    Quantity::Latency => "give Seconds, Milliseconds or Microseconds",
                    Quantity::Ratio => "give Ratio or Percent",
                    Quantity::Gauge | Quantity::Counter => "a count has no unit: leave it out",
                };
                let (unit, field) = (unit.as_str(), field.as_str());
                write!(f, "spec.custom: unit {unit} does not fit {field}: {fitting}")
            }
            Self::Aggregation(field) => write!(
                f,
                "spec.custom: {} is a latency, whose histograms are always added up: leave aggregation out",
                field.as_str()
            ),
            Self::ModelLabel => write!(
                f,
                "spec.custom.modelLabel must be the name of a label, of 1 to {LABEL_NAME_BYTES} bytes"
            ),
            Self::TooLarge(bytes) => write!(
                f,
                "the names and labels of spec.custom have {bytes} bytes, {MAPPING_BYTES} at most are taken: choose by fewer labels"
            ),
        }
    }
}

impl std::error::Error for MappingError {}
