//! The metrics of a server that no product knows: states and kinds as labels, percent, milliseconds.

use std::fmt::Write;

use crate::load::{Distribution, Load};

/// Bounds of its histograms, milliseconds; each is one of the load's own.
const BOUNDS: [u32; 7] = [10, 100, 250, 500, 1000, 2500, 10_000];

/// The metrics body under this load.
pub(crate) fn metrics(load: &Load) -> String {
    let model = load
        .model
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let Load {
        waiting,
        running,
        kv_cache_usage,
        prompt_tokens_total: prompt,
        generated_tokens_total: generated,
        requests_succeeded_total: succeeded,
        requests_aborted_total: aborted,
        ..
    } = load;
    let cache = kv_cache_usage * 100.0;
    let mut body = format!(
        "# TYPE home_requests gauge\n\
         home_requests{{state=\"queued\",model=\"{model}\"}} {waiting}\n\
         home_requests{{state=\"active\",model=\"{model}\"}} {running}\n\
         # TYPE home_cache_used_percent gauge\n\
         home_cache_used_percent{{pool=\"0\"}} {cache}\n\
         home_cache_used_percent{{pool=\"1\"}} 0\n\
         # TYPE home_tokens_total counter\n\
         home_tokens_total{{kind=\"prompt\"}} {prompt}\n\
         home_tokens_total{{kind=\"generated\"}} {generated}\n\
         # TYPE home_answers_total counter\n\
         home_answers_total{{result=\"ok\"}} {succeeded}\n\
         home_answers_total{{result=\"aborted\"}} {aborted}\n\
         # TYPE home_first_token_milliseconds histogram\n"
    );
    histogram(&mut body, "home_first_token_milliseconds", &load.time_to_first_token);
    body
}

fn histogram(body: &mut String, name: &str, distribution: &Distribution) {
    // Writing to a String does not fail.
    for bound in BOUNDS {
        let count = distribution.at_most(f64::from(bound) / 1000.0);
        let _ = writeln!(body, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let (count, sum) = (distribution.count(), distribution.sum_seconds() * 1000.0);
    let _ = writeln!(body, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(body, "{name}_sum {sum}");
    let _ = writeln!(body, "{name}_count {count}");
}
