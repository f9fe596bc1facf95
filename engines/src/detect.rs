//! Tells engines apart by the names in a body: content first, since ports, paths and content types are the same for most.

use memchr::memchr;

use crate::sample::Engine;

/// How many distinct prefixes an error names.
const SEEN_LIMIT: usize = 5;
/// How long a named prefix may be.
const SEEN_BYTES: usize = 40;

/// A product that its metric names give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// An engine that is read.
    Readable(Engine),
    /// An engine or server that is known by name only.
    Other(&'static str),
}

impl Product {
    pub(crate) const fn engine(self) -> Option<Engine> {
        match self {
            Self::Readable(engine) => Some(engine),
            Self::Other(_) => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Readable(engine) => engine.as_str(),
            Self::Other(name) => name,
        }
    }

    /// The product that a metric name belongs to.
    fn of(name: &[u8]) -> Option<Self> {
        // Ray puts `ray_` in front of what its engines expose.
        let name = name.strip_prefix(b"ray_").unwrap_or(name);
        let has = |prefix: &str| {
            // `:` becomes `_` under Ray and under OpenMetrics name escaping.
            name.strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| matches!(rest.first(), Some(b':' | b'_')))
        };
        let product = match name.first()? {
            b'v' if has("vllm") => Self::Readable(Engine::Vllm),
            b'l' if has("llamacpp") => Self::Readable(Engine::LlamaCpp),
            b'l' if has("lmdeploy") => Self::Readable(Engine::LmDeploy),
            b's' if has("sglang") => Self::Readable(Engine::Sglang),
            b't' if has("tgi") => Self::Readable(Engine::Tgi),
            b't' if has("trtllm") => Self::Readable(Engine::TensorRtLlm),
            b't' if name.starts_with(b"te_") => Self::Other("Text Embeddings Inference (TEI)"),
            b'n' if name.starts_with(b"nv_trt_llm_") || name.starts_with(b"nv_inference_") => {
                Self::Readable(Engine::Triton)
            }
            b'd' if name.starts_with(b"dynamo_") => Self::Other("NVIDIA Dynamo"),
            _ => return None,
        };
        Some(product)
    }
}

/// What the names of a body say.
#[derive(Debug, Default)]
pub(crate) struct Detection {
    pub(crate) product: Option<Product>,
    /// The first distinct prefixes, only filled while nothing readable is found.
    pub(crate) seen: Vec<String>,
}

/// Looks at the names of a body until one belongs to an engine that is read.
///
/// An engine that is read wins over the first name of another product. Triton with its vLLM backend exposes names of both and is Triton: names
/// of vLLM with Triton's labels do not end the search.
pub(crate) fn detect(body: &[u8]) -> Detection {
    let mut detection = Detection {
        product: None,
        seen: Vec::new(),
    };
    let mut bare = Bare::default();
    // The name noted last: the lines of a family stand together.
    let mut noted: &[u8] = b"";
    let mut rest = body;
    while !rest.is_empty() {
        let length = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..length).unwrap_or_default().trim_ascii_start();
        rest = rest.get(length + 1..).unwrap_or_default();
        let (name, is_sample) = match line.first() {
            None => continue,
            Some(b'#') => match line.strip_prefix(b"# TYPE ") {
                Some(name) => (name, false),
                None => continue,
            },
            Some(_) => (line, true),
        };
        let is_noted = |after: &[u8]| after.first().is_some_and(|b| matches!(b, b'{' | b' '));
        if !noted.is_empty() && name.strip_prefix(noted).is_some_and(is_noted) {
            continue;
        }
        let name = name_of(name);
        match Product::of(name) {
            Some(product @ Product::Readable(Engine::Vllm)) => {
                detection.product = Some(product);
                if is_sample && !has_labels_of_triton(line) {
                    return detection;
                }
            }
            Some(product @ Product::Readable(_)) => {
                detection.product = Some(product);
                return detection;
            }
            Some(other) => {
                detection.product.get_or_insert(other);
            }
            None => {
                bare.note(name);
                detection.note(name);
                noted = name;
            }
        }
    }
    if !matches!(detection.product, Some(Product::Readable(_)))
        && let Some(engine) = bare.engine()
    {
        detection.product = Some(Product::Readable(engine));
    }
    detection
}

/// Triton's backends label with `model` and `version`.
fn has_labels_of_triton(line: &[u8]) -> bool {
    let has = |label: &[u8]| line.windows(label.len()).any(|window| window == label);
    has(b"version=\"") && !has(b"model_name=\"") && !has(b"engine=\"")
}

/// Names without a prefix, which two products share.
#[derive(Debug, Default)]
struct Bare {
    nim: bool,
    running: bool,
    waiting: bool,
    success: bool,
    first_token: bool,
}

impl Bare {
    fn note(&mut self, name: &[u8]) {
        match name {
            b"num_request_max" | b"gpu_cache_usage_perc" => self.nim = true,
            b"num_requests_running" => self.running = true,
            b"num_requests_waiting" => self.waiting = true,
            b"request_success_total" => self.success = true,
            _ => self.first_token |= name.starts_with(b"time_to_first_token_seconds"),
        }
    }

    /// NIM 1.x has queue and cache, TensorRT-LLM 1.1 has outcomes and latencies alone.
    const fn engine(&self) -> Option<Engine> {
        if self.nim || (self.running && self.waiting) {
            Some(Engine::Nim)
        } else if self.success && self.first_token {
            Some(Engine::TensorRtLlm)
        } else {
            None
        }
    }
}

impl Detection {
    fn note(&mut self, name: &[u8]) {
        if self.seen.len() == SEEN_LIMIT {
            return;
        }
        let length = name
            .iter()
            .position(|b| matches!(b, b'_' | b':'))
            .map_or(name.len(), |at| at + 1);
        let Ok(prefix) = std::str::from_utf8(name.get(..length.min(SEEN_BYTES)).unwrap_or_default()) else {
            return;
        };
        if !prefix.is_empty() && !self.seen.iter().any(|seen| seen == prefix) {
            self.seen.push(prefix.to_owned());
        }
    }
}

/// The name that a line begins with, or that stands in quotes at the begin of its labels, as Prometheus writes names of UTF-8.
fn name_of(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"{").map_or(text, <[u8]>::trim_ascii_start);
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let length = text
        .iter()
        .take_while(|&&b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
        .count();
    text.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_told_apart_by_prefix() {
        for (name, product) in [
            ("vllm:num_requests_running", Some("VLLM")),
            ("ray_vllm:num_requests_running", Some("VLLM")),
            ("ray_vllm_num_requests_running", Some("VLLM")),
            ("vllm_num_requests_running", Some("VLLM")),
            ("llamacpp:requests_deferred", Some("LlamaCpp")),
            ("sglang_num_queue_reqs", Some("SGLang")),
            ("nv_inference_count", Some("Triton")),
            ("tgi_queue_size", Some("TGI")),
            ("trtllm:num_requests_running", Some("TensorRTLLM")),
            ("{\"llamacpp:requests_deferred\"", Some("LlamaCpp")),
            ("\"tgi_queue_size\" gauge", Some("TGI")),
            ("te_queue_size", Some("Text Embeddings Inference (TEI)")),
            ("vllmish", None),
            ("python_info", None),
            ("", None),
        ] {
            assert_eq!(
                Product::of(name_of(name.as_bytes())).map(Product::name),
                product,
                "{name}"
            );
        }
    }

    #[test]
    fn names_that_several_products_have_are_told_apart_by_the_rest_of_the_body() {
        for (body, engine) in [
            (
                "dynamo_frontend_inflight_requests 1\nvllm:prompt_tokens_total{engine=\"0\"} 1\n",
                Engine::Vllm,
            ),
            (
                "vllm:prompt_tokens_total{model=\"m\",version=\"1\"} 1\nnv_inference_count 1\n",
                Engine::Triton,
            ),
            ("vllm:prompt_tokens_total{model=\"m\",version=\"1\"} 1\n", Engine::Vllm),
            ("# TYPE vllm:num_requests_running gauge\n", Engine::Vllm),
            (
                "request_success_total 1\nnum_request_max 1\ntime_to_first_token_seconds_sum 1\n",
                Engine::Nim,
            ),
            ("num_requests_running 1\nnum_requests_waiting 1\n", Engine::Nim),
            (
                "request_success_total 1\ntime_to_first_token_seconds_sum 1\n",
                Engine::TensorRtLlm,
            ),
        ] {
            assert_eq!(
                detect(body.as_bytes()).product,
                Some(Product::Readable(engine)),
                "{body}"
            );
        }
        assert_eq!(detect(b"request_success_total 1\n").product, None);
    }

    #[test]
    fn seen_prefixes_are_distinct_and_few() {
        let detection = detect(b"a_1 1\na_2 1\nb_1 1\nc_1 1\nd_1 1\ne_1 1\nf_1 1\n{\n\xff\n");
        assert_eq!(detection.seen, ["a_", "b_", "c_", "d_", "e_"]);
    }
}
