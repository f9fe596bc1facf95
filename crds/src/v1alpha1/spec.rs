//! What a user declares. The doc comments become the descriptions of the CRD, so they speak to the user.

use super::{CustomMapping, InferenceMonitorStatus, Thresholds};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to monitor and which values count as too high.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "inferencemonitor.io",
    version = "v1alpha1",
    kind = "InferenceMonitor",
    plural = "inferencemonitors",
    singular = "inferencemonitor",
    shortname = "infmon",
    category = "inference",
    namespaced,
    status = "InferenceMonitorStatus",
    derive = "PartialEq",
    doc = "InferenceMonitor watches one inference service: its servers, and the GPUs they run on. Its conditions say whether it is healthy and why not; its metrics are what an HPA scales on.",
    selectable = ".spec.engine",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Data is fresh from enough endpoints"
    ),
    printcolumn(
        name = "Engine",
        type_ = "string",
        json_path = ".status.engine",
        description = "Engine recognised in what the servers expose"
    ),
    printcolumn(
        name = "Endpoints",
        type_ = "string",
        json_path = ".status.summary.endpoints",
        description = "Endpoints with fresh data, of all"
    ),
    printcolumn(
        name = "Waiting",
        type_ = "integer",
        json_path = ".status.summary.waiting",
        description = "Requests that wait, over all endpoints"
    ),
    printcolumn(
        name = "Running",
        type_ = "integer",
        json_path = ".status.summary.running",
        description = "Requests that run, over all endpoints"
    ),
    printcolumn(
        name = "KV",
        type_ = "string",
        json_path = ".status.summary.kvCacheUsage",
        description = "KV cache in use, the fullest endpoint"
    ),
    printcolumn(
        name = "Load",
        type_ = "string",
        json_path = ".status.load",
        description = "Idle, Healthy, Degraded, Overloaded or Unknown"
    ),
    printcolumn(
        name = "Throttled",
        type_ = "string",
        json_path = ".status.summary.throttled",
        description = "GPUs that lose clocks, of all that serve this monitor"
    ),
    printcolumn(
        name = "OOMRisk",
        type_ = "string",
        json_path = ".status.summary.oomRisk",
        description = "Low, Medium, High or Unknown"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1,
        description = "Reason of the Ready condition"
    ),
    printcolumn(
        name = "Generation",
        type_ = "string",
        json_path = ".status.engineGeneration",
        priority = 1,
        description = "Metric generation of the engine"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "Message of the Ready condition"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.staleAfterSeconds * 1000 >= 2 * self.samplePeriodMilliseconds").message("staleAfterSeconds must be at least twice samplePeriodMilliseconds, or every sample would be stale before the next one comes: raise staleAfterSeconds or lower samplePeriodMilliseconds").field_path(".staleAfterSeconds"),
    validation = Rule::new("has(self.custom) == (self.engine == 'Custom')").message("give spec.custom exactly when spec.engine is Custom: it says which series of the servers feed which field").field_path(".custom")
)]
pub struct InferenceMonitorSpec {
    /// Engine of the servers. Auto recognises it from what they expose; a name makes a different engine a condition
    /// (MetricsRecognized=False) instead of a guess.
    #[serde(default)]
    pub engine: EngineChoice,
    /// Which series of the servers feed which field, for engine Custom, and only for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomMapping>,
    /// Where the servers are, 1 to 16 groups.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<Endpoint>,
    /// Path of the metrics. Default by engine: /metrics; TensorRTLLM /prometheus/metrics, NIM /v1/metrics, Ollama /api/ps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[^?#\s]*$"))]
    pub metrics_path: Option<String>,
    /// HTTP or HTTPS for pods and Services; a url has its own. The certificate of a pod is not verified, since pods have no names that
    /// it could carry; that of a url is.
    #[serde(default)]
    pub scheme: Scheme,
    /// Time between two samples of a server, 250 to 60000 milliseconds.
    #[serde(default = "default_sample_period")]
    #[schemars(range(min = 250, max = 60000))]
    pub sample_period_milliseconds: i32,
    /// Age at which a sample stops being used, 2 to 300 seconds. Older data is an error for the HPA and Unknown in a condition.
    #[serde(default = "default_stale_after")]
    #[schemars(range(min = 2, max = 300))]
    pub stale_after_seconds: i32,
    /// From which value on a condition turns True. Every threshold has a default, or is off unless it is given.
    #[serde(default)]
    pub thresholds: Thresholds,
}

fn default_sample_period() -> i32 {
    1000
}

fn default_stale_after() -> i32 {
    10
}

/// Engines that can be named in a spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EngineChoice {
    /// Recognise the engine from what the servers expose.
    #[default]
    Auto,
    /// vLLM.
    #[serde(rename = "VLLM")]
    Vllm,
    /// llama.cpp llama-server.
    LlamaCpp,
    /// SGLang.
    #[serde(rename = "SGLang")]
    Sglang,
    /// Triton Inference Server, with any backend.
    Triton,
    /// TensorRT-LLM trtllm-serve.
    #[serde(rename = "TensorRTLLM")]
    TensorRtLlm,
    /// Hugging Face Text Generation Inference.
    #[serde(rename = "TGI")]
    Tgi,
    /// LMDeploy.
    #[serde(rename = "LMDeploy")]
    LmDeploy,
    /// NVIDIA NIM for LLMs.
    #[serde(rename = "NIM")]
    Nim,
    /// Ollama: which models are loaded, and nothing else.
    Ollama,
    /// Any other server with metrics in Prometheus' text format: spec.custom says what its series mean.
    Custom,
}

/// HTTP or HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// A group of servers: exactly one of pods, service and url.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.pods), has(self.service), has(self.url)].filter(given, given).size() == 1").message("give exactly one of pods, service and url in each endpoint"),
    validation = Rule::new("!has(self.credentialsSecretRef) || (has(self.url) && self.url.matches('^[hH][tT][tT][pP][sS]://'))").message("credentialsSecretRef goes with an https:// url and with nothing else: credentials are sent only to a server that proves its name").field_path(".credentialsSecretRef"),
    validation = Rule::new("!has(self.labels) || has(self.url)").message("labels go with a url: pods have labels of their own").field_path(".labels")
)]
pub struct Endpoint {
    /// Name of the group, unique in this monitor.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Pods of the same namespace, found by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodEndpoint>,
    /// Pods behind a Service of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceEndpoint>,
    /// A server outside the cluster: scheme, host and port, without a path, for example http://10.1.2.3:8000. Refused unless an
    /// administrator lists the host (Helm value allowedHosts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && url(self).getEscapedPath() in ['', '/'] && size(url(self).getQuery()) == 0 && !self.contains('@') && !self.contains('#')").message("url must be http:// or https:// with a host and, if need be, a port, and nothing else: put the path into spec.metricsPath; credentials belong into credentialsSecretRef")
    )]
    pub url: Option<String>,
    /// Secret of the same namespace with what the server of an https:// url is shown. It must carry the label
    /// inferencemonitor.io/credentials: "true", and its annotation inferencemonitor.io/hosts must name the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretReference>,
    /// Labels that the status and the JSON API show beside the url: 8 at most, names as in Prometheus (letters, digits and _).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 8,
        "additionalProperties" = { "type": "string", "maxLength": 128, "pattern": ENDPOINT_LABEL_VALUE }
    ))]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[a-zA-Z][a-zA-Z0-9_]{0,62}$'))").message("each name of labels must begin with a letter and have 1 to 63 letters, digits and '_'")
    )]
    pub labels: BTreeMap<String, String>,
}

/// Values of the labels of an endpoint: one line of text.
const ENDPOINT_LABEL_VALUE: &str = r"^\P{Cc}*$";

/// A Secret of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret. Its keys: token; or username and password; tls.crt with tls.key; ca.crt.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Pods of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodEndpoint {
    /// Which pods. Must not be empty: an empty selector would take every pod of the namespace.
    pub selector: PodSelector,
    /// Name or number of a container port that the pod declares.
    pub port: PortReference,
}

/// Pods behind a Service of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpoint {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Name of a port of the Service, or the number its pods listen on (targetPort).
    pub port: PortReference,
}

/// Label keys that Kubernetes allows, but for lengths.
const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// Label values that Kubernetes allows, but for lengths.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// Label selector that must not be empty.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)").message("selector must not be empty: an empty selector would take every pod of the namespace; give matchLabels or matchExpressions")
)]
pub struct PodSelector {
    /// Labels the pods must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 16,
        "additionalProperties" = { "type": "string", "maxLength": 63, "pattern": LABEL_VALUE }
    ))]
    #[x_kube(
        validation = Rule::new("self.all(key, size(key) >= 1 && size(key) <= 317)").message("each key of matchLabels must have 1 to 317 characters")
    )]
    pub match_labels: BTreeMap<String, String>,
    /// Expressions that the labels of the pods must meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One expression of a label selector.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn'] ? (has(self.values) && size(self.values) > 0) : (!has(self.values) || size(self.values) == 0)").message("In and NotIn need values; Exists and DoesNotExist take none")
)]
pub struct LabelSelectorRequirement {
    /// Label key.
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY))]
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: SelectorOperator,
    /// Values for In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63), regex(pattern = LABEL_VALUE)))]
    pub values: Vec<String>,
}

/// Operator of a label selector expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Name or number of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortReference {
    /// Port number, 1 to 65535.
    Number(i32),
    /// Port name, an IANA service name.
    Name(String),
}

impl InferenceMonitorSpec {
    /// Age from which on a sample is not used any more. What the API server would refuse counts as no age at all: nothing is used.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.stale_after_seconds).unwrap_or(0))
    }
}

impl Default for PortReference {
    fn default() -> Self {
        Self::Name("http".into())
    }
}

impl std::fmt::Display for PortReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl JsonSchema for PortReference {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortReference".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // A structural schema cannot be a union of types; this is the one exception that Kubernetes makes. The type inside the CEL
        // rule is dynamic for it.
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 15,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$')",
                "message": "port must be a number from 1 to 65535 or the name of a port (1 to 15 lower-case letters, digits and '-')"
            }]
        })
    }
}
