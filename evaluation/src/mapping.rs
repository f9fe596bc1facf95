//! `spec.custom`: what the user says of the series of a server, and what it leaves unsaid.

use infmon_crds::v1alpha1::{
    CustomField, CustomMapping, EngineChoice, InferenceMonitorSpec, SampleField, SeriesAggregation, SeriesUnit,
};
use infmon_engines::{Aggregation, Field, MappedSeries, Mapping, Unit};
use sha2::{Digest, Sha256};

/// The mapping of a spec; an empty one for the engines that need none.
///
/// # Errors
/// In words for the user, when a mapping is missing, there for another engine, or breaks a rule that the API server would have refused.
pub fn mapping_of(spec: &InferenceMonitorSpec) -> Result<Mapping, String> {
    match (&spec.engine, &spec.custom) {
        (EngineChoice::Custom, Some(custom)) => mapping(custom),
        (EngineChoice::Custom, None) => {
            Err("spec.engine is Custom: say in spec.custom which series feed which field".to_owned())
        }
        (_, Some(_)) => Err("spec.custom is for spec.engine Custom: set that, or leave spec.custom out".to_owned()),
        (_, None) => Ok(Mapping::default()),
    }
}

/// The mapping that a `spec.custom` says.
///
/// # Errors
/// In words for the user, when it breaks a rule that the API server would have refused.
pub fn mapping(custom: &CustomMapping) -> Result<Mapping, String> {
    let series = custom.fields.iter().map(series).collect();
    Mapping::new(series, custom.model_label.clone()).map_err(|error| error.to_string())
}

fn series(field: &CustomField) -> MappedSeries {
    MappedSeries {
        field: self::field(field.field),
        name: field.series.clone(),
        labels: field.match_labels.clone(),
        unit: field.unit.map(|unit| match unit {
            SeriesUnit::Seconds => Unit::Seconds,
            SeriesUnit::Milliseconds => Unit::Milliseconds,
            SeriesUnit::Microseconds => Unit::Microseconds,
            SeriesUnit::Ratio => Unit::Ratio,
            SeriesUnit::Percent => Unit::Percent,
        }),
        aggregation: field.aggregation.map(|aggregation| match aggregation {
            SeriesAggregation::Sum => Aggregation::Sum,
            SeriesAggregation::Max => Aggregation::Max,
        }),
    }
}

const fn field(field: SampleField) -> Field {
    match field {
        SampleField::Waiting => Field::Waiting,
        SampleField::Running => Field::Running,
        SampleField::MaxConcurrency => Field::MaxConcurrency,
        SampleField::KvCacheUsage => Field::KvCacheUsage,
        SampleField::KvCacheCapacityTokens => Field::KvCapacity,
        SampleField::HostCacheUsage => Field::HostCacheUsage,
        SampleField::PromptTokensTotal => Field::PromptTokens,
        SampleField::GeneratedTokensTotal => Field::GeneratedTokens,
        SampleField::PreemptionsTotal => Field::Preemptions,
        SampleField::PrefixCacheHitTokensTotal => Field::PrefixHitTokens,
        SampleField::PrefixCacheQueryTokensTotal => Field::PrefixQueryTokens,
        SampleField::PrefixCacheHitRatio => Field::PrefixHitRatio,
        SampleField::RequestsSucceededTotal => Field::RequestsSucceeded,
        SampleField::RequestsFailedTotal => Field::RequestsFailed,
        SampleField::TimeToFirstToken => Field::TimeToFirstToken,
        SampleField::InterToken => Field::InterToken,
        SampleField::PerOutputToken => Field::PerOutputToken,
        SampleField::EndToEnd => Field::EndToEnd,
        SampleField::QueueTime => Field::QueueTime,
    }
}

/// Names a mapping within the id of a target. Not a fast hash: nobody may be able to make a mapping that passes for that of somebody
/// else who watches the same host. Every replica of the operator makes the same of it.
pub(crate) fn digest(mapping: &Mapping) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        // The length keeps `ab` + `c` apart from `a` + `bc`.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(mapping.model_label().unwrap_or_default());
    for series in mapping.series() {
        let MappedSeries {
            field,
            name,
            labels,
            unit,
            aggregation,
        } = series;
        add(field.as_str());
        add(name);
        add(unit.map_or("", Unit::as_str));
        add(aggregation.map_or("", Aggregation::as_str));
        add(&labels.len().to_string());
        for (label, value) in labels {
            add(label);
            add(value);
        }
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What to do for a value that `spec.custom` names no series for: `spec.custom maps no series to Waiting: add that field`. `None` where the
/// engine is another one, or one of the fields is mapped.
pub(crate) fn unmapped(spec: &InferenceMonitorSpec, fields: &[SampleField]) -> Option<String> {
    let custom = spec.custom.as_ref().filter(|_| spec.engine == EngineChoice::Custom)?;
    let is_mapped = |wanted: &SampleField| custom.fields.iter().any(|mapped| mapped.field == *wanted);
    if fields.iter().any(is_mapped) {
        return None;
    }
    let name = field(*fields.first()?).as_str();
    Some(format!("spec.custom maps no series to {name}: add that field"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn custom(fields: &[(SampleField, &str)]) -> CustomMapping {
        let field = |&(field, series): &(SampleField, &str)| CustomField {
            field,
            series: series.to_owned(),
            match_labels: BTreeMap::new(),
            unit: None,
            aggregation: None,
        };
        CustomMapping {
            fields: fields.iter().map(field).collect(),
            model_label: None,
        }
    }

    #[test]
    fn every_field_of_the_api_has_the_same_name_as_that_of_the_engines() {
        for known in Field::MAPPABLE {
            let named: SampleField = serde_json::from_value(known.as_str().into()).unwrap();
            assert_eq!(field(named), known);
        }
    }

    #[test]
    fn equal_meanings_have_one_digest_and_others_another() {
        let digest = |custom: &CustomMapping| digest(&mapping(custom).unwrap());
        let base = custom(&[(SampleField::Waiting, "a"), (SampleField::Running, "b")]);
        let same = custom(&[(SampleField::Running, "b"), (SampleField::Waiting, "a")]);
        assert_eq!(digest(&base), digest(&same));
        assert_eq!(digest(&base).len(), 32);
        let changed = |change: fn(&mut CustomMapping)| {
            let mut changed = base.clone();
            change(&mut changed);
            digest(&changed)
        };
        let spelled_out = changed(|custom| custom.fields[0].aggregation = Some(SeriesAggregation::Sum));
        assert_eq!(digest(&base), spelled_out);
        for other in [
            changed(|custom| custom.fields[0].series = "ab".to_owned()),
            changed(|custom| custom.fields[0].field = SampleField::MaxConcurrency),
            changed(|custom| custom.fields[0].aggregation = Some(SeriesAggregation::Max)),
            changed(|custom| custom.fields[0].match_labels = [("a".to_owned(), String::new())].into()),
            changed(|custom| custom.model_label = Some("model".to_owned())),
        ] {
            assert_ne!(digest(&base), other);
        }
    }

    #[test]
    fn what_the_api_server_would_have_refused_is_told() {
        let twice = custom(&[(SampleField::Waiting, "a"), (SampleField::Waiting, "b")]);
        assert_eq!(
            mapping(&twice),
            Err("spec.custom maps Waiting twice: give each field once".to_owned())
        );
    }
}
