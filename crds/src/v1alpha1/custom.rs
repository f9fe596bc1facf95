//! Which series of a server feed which field, for servers that are not known.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which series of the servers feed which field.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomMapping {
    /// Fields and their series, each field once, 1 to 32. A field that is not listed is absent, never 0.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["field".into()]))]
    pub fields: Vec<CustomField>,
    /// Label of these series whose value is the name of the model, for example model_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub model_label: Option<String>,
}

/// The series of one field.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.unit) || (self.unit in ['Ratio', 'Percent'] ? self.field in ['KVCacheUsage', 'HostCacheUsage', 'PrefixCacheHitRatio'] : self.field in ['TimeToFirstToken', 'InterToken', 'PerOutputToken', 'EndToEnd', 'QueueTime'])").message("unit must fit the field: Seconds, Milliseconds or Microseconds for TimeToFirstToken, InterToken, PerOutputToken, EndToEnd and QueueTime; Ratio or Percent for KVCacheUsage, HostCacheUsage and PrefixCacheHitRatio; leave it out for counts").field_path(".unit"),
    validation = Rule::new("!has(self.aggregation) || !(self.field in ['TimeToFirstToken', 'InterToken', 'PerOutputToken', 'EndToEnd', 'QueueTime'])").message("leave aggregation out for TimeToFirstToken, InterToken, PerOutputToken, EndToEnd and QueueTime: their histograms are always added up").field_path(".aggregation")
)]
pub struct CustomField {
    /// The field that the series feed.
    pub field: SampleField,
    /// Metric name. Of TimeToFirstToken, InterToken, PerOutputToken, EndToEnd and QueueTime the name of the histogram, without
    /// _bucket, _sum and _count.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub series: String,
    /// Only series with these label values, 4 at most. An empty value also means that the label is not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 4,
        "additionalProperties" = { "type": "string", "maxLength": 128 }
    ))]
    #[x_kube(
        validation = Rule::new("self.all(key, size(key) >= 1 && size(key) <= 63)").message("each key of the matchLabels of a series must have 1 to 63 characters")
    )]
    pub match_labels: BTreeMap<String, String>,
    /// Unit of the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<SeriesUnit>,
    /// How the series that match become one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<SeriesAggregation>,
}

/// The field that the series feed: what they tell of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SampleField {
    /// Requests that wait for a place in the batch.
    Waiting,
    /// Requests that run now.
    Running,
    /// Requests that can run at once.
    MaxConcurrency,
    /// KV cache in use.
    #[serde(rename = "KVCacheUsage")]
    KvCacheUsage,
    /// Tokens that the KV cache holds.
    #[serde(rename = "KVCacheCapacityTokens")]
    KvCacheCapacityTokens,
    /// Host or offload cache in use.
    HostCacheUsage,
    /// Prompt tokens since the server started.
    PromptTokensTotal,
    /// Generated tokens since the server started.
    GeneratedTokensTotal,
    /// Requests evicted from the running batch to free KV cache.
    PreemptionsTotal,
    /// Prompt tokens found in the prefix cache.
    PrefixCacheHitTokensTotal,
    /// Prompt tokens looked up in the prefix cache.
    PrefixCacheQueryTokensTotal,
    /// Prefix cache hit ratio.
    PrefixCacheHitRatio,
    /// Requests that ended well.
    RequestsSucceededTotal,
    /// Requests that failed or were aborted.
    RequestsFailedTotal,
    /// Time to first token.
    TimeToFirstToken,
    /// Time between two tokens of one request.
    InterToken,
    /// Mean time per output token of one request.
    PerOutputToken,
    /// Arrival to last token.
    EndToEnd,
    /// Time a request waited before it ran first.
    QueueTime,
}

/// Unit of the series: Seconds (default), Milliseconds or Microseconds of a latency, Ratio (0 to 1, default) or Percent (0 to 100) of
/// KVCacheUsage, HostCacheUsage and PrefixCacheHitRatio. Counts have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SeriesUnit {
    /// Of a latency.
    Seconds,
    /// Of a latency.
    Milliseconds,
    /// Of a latency.
    Microseconds,
    /// 0 to 1.
    Ratio,
    /// 0 to 100.
    Percent,
}

/// How the series that match become one number: Sum, the default, or Max, the default of KVCacheUsage, HostCacheUsage and
/// PrefixCacheHitRatio. Histograms are always added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SeriesAggregation {
    /// They are added up.
    Sum,
    /// The greatest counts.
    Max,
}
