//! Which representation the client accepts (apiserver `pkg/endpoints/handlers/negotiation/negotiate.go`). Pure.
//!
//! Everything is served as JSON. The one choice is at `/apis`, between the legacy `APIGroupList` and the aggregated
//! discovery document (KEP-3352). Entries that are not understood (protobuf, CBOR, `as=Table`) are passed over.

/// What can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// Plain JSON.
    Json,
    /// `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    AggregatedDiscovery,
}

/// The content type of plain JSON.
pub(super) const JSON: &str = "application/json";
/// The content type of the aggregated discovery document; clients compare its parameters.
pub(super) const AGGREGATED_DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The best entry of an `Accept` header that can be answered, or `None` (406). No header accepts anything.
pub(super) fn negotiate(accept: Option<&str>, offers_aggregated: bool) -> Option<Representation> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Some(Representation::Json);
    };
    let mut best: Option<(u16, Representation)> = None;
    for entry in accept.split(',') {
        let Some((quality, representation)) = understand(entry, offers_aggregated) else {
            continue;
        };
        // The first of equals wins: the order of the header is the order of preference.
        if quality > 0 && best.is_none_or(|(best_quality, _)| quality > best_quality) {
            best = Some((quality, representation));
        }
    }
    best.map(|(_, representation)| representation)
}

fn understand(entry: &str, offers_aggregated: bool) -> Option<(u16, Representation)> {
    let mut parts = entry.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    if !matches!(media_type.as_str(), "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut quality, mut group, mut version, mut kind, mut stream) = (1000, "", "", "", false);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = (value.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u16,
            "g" => group = value,
            "v" => version = value,
            "as" => kind = value,
            "stream" => stream = true,
            _ => {}
        }
    }
    match (group, version, kind) {
        _ if stream => None,
        ("", "", "") => Some((quality, Representation::Json)),
        ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") if offers_aggregated => {
            Some((quality, Representation::AggregatedDiscovery))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_entry_wins() {
        use Representation::{AggregatedDiscovery as Aggregated, Json};
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                       application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        for (accept, offers_aggregated, expected) in [
            (None, true, Some(Json)),
            (Some(""), true, Some(Json)),
            (Some("application/vnd.kubernetes.protobuf, */*"), false, Some(Json)),
            (Some("application/cbor, application/json"), false, Some(Json)),
            (Some("application/json;charset=utf-8"), false, Some(Json)),
            (Some("APPLICATION/JSON"), false, Some(Json)),
            (Some("application/*"), false, Some(Json)),
            (Some(AGGREGATED_DISCOVERY), true, Some(Aggregated)),
            (
                Some("application/json; as=APIGroupDiscoveryList; v=v2; g=apidiscovery.k8s.io"),
                true,
                Some(Aggregated),
            ),
            (Some(AGGREGATED_DISCOVERY), false, None),
            (Some(kubectl), true, Some(Aggregated)),
            (Some(kubectl), false, Some(Json)),
            (
                Some("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
                true,
                None,
            ),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                false,
                Some(Json),
            ),
            (Some("application/json;as=Table;v=v1;g=meta.k8s.io"), false, None),
            (
                Some(
                    "application/json;q=0.1,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;q=0.9",
                ),
                true,
                Some(Aggregated),
            ),
            (Some("application/json;q=0"), false, None),
            (Some("application/vnd.kubernetes.protobuf"), false, None),
            (Some("text/html"), true, None),
            (Some(";;;,,="), true, None),
        ] {
            assert_eq!(negotiate(accept, offers_aggregated), expected, "{accept:?}");
        }
    }
}
