//! Mappings of `spec.custom`.

use crate::wire;
use infmon_engines::{Aggregation, Field, MappedSeries, Mapping, Unit};

/// Nothing where nothing is mapped.
pub(super) fn encode_mapping(mapping: &Mapping) -> Option<wire::Mapping> {
    let encode = |series: &MappedSeries| {
        let MappedSeries {
            field,
            name,
            labels,
            unit,
            aggregation,
        } = series;
        wire::MappedSeries {
            field: field.as_str().to_owned(),
            unit: unit.map_or_else(String::new, |unit| unit.as_str().to_owned()),
            aggregation: aggregation.map_or_else(String::new, |aggregation| aggregation.as_str().to_owned()),
            name: name.clone(),
            labels: labels.clone().into_iter().collect(),
        }
    };
    (!mapping.is_empty()).then(|| wire::Mapping {
        series: mapping.series().iter().map(encode).collect(),
        model_label: mapping.model_label().unwrap_or_default().to_owned(),
    })
}

/// Nothing where a part is not understood: the rest would pass for the whole. The reader then says that it has no mapping.
pub(super) fn decode_mapping(mapping: wire::Mapping) -> Mapping {
    let decode = |series: wire::MappedSeries| {
        let optional = |name: String| Some(name).filter(|name| !name.is_empty());
        let unit = optional(series.unit).map(|name| Unit::from_name(&name).ok_or(()));
        let aggregation = optional(series.aggregation).map(|name| Aggregation::from_name(&name).ok_or(()));
        Some(MappedSeries {
            field: Field::from_name(&series.field)?,
            unit: unit.transpose().ok()?,
            aggregation: aggregation.transpose().ok()?,
            name: series.name,
            labels: series.labels.into_iter().collect(),
        })
    };
    let series: Option<Vec<MappedSeries>> = mapping.series.into_iter().map(decode).collect();
    let model_label = Some(mapping.model_label).filter(|label| !label.is_empty());
    series
        .and_then(|series| Mapping::new(series, model_label).ok())
        .unwrap_or_default()
}
