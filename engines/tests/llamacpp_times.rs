//! llama.cpp: the mean time per output token, of one server and of the models of a router.

use infmon_engines::{BodyReader, Histogram, Reading, merge_models};

fn read(body: &str) -> Reading {
    BodyReader::new(None)
        .read(body.as_bytes())
        .expect("the body is readable")
}

fn body(tokens: &str, seconds: &str) -> String {
    format!(
        "llamacpp:requests_deferred 0\nllamacpp:requests_processing 1\nllamacpp:tokens_predicted_total {tokens}\n\
         llamacpp:tokens_predicted_seconds_total {seconds}\n"
    )
}

fn mean(count: f64, sum_seconds: f64) -> Histogram {
    Histogram {
        count,
        sum_seconds,
        buckets: vec![(None, count)],
    }
}

#[test]
fn the_time_of_generated_tokens_is_a_mean_without_a_distribution() {
    let recorded = read(include_str!("bodies/llama-server-0.7.0-b11669-queued.prom")).sample;
    let times = recorded.latency.per_output_token.clone().expect("a mean");
    assert_eq!(times, mean(6600.0, times.sum_seconds));
    assert!(times.sum_seconds > 0.0);
    // Nothing else is a latency there.
    assert_eq!(
        (recorded.latency.inter_token, recorded.latency.time_to_first_token),
        (None, None)
    );

    let of = |tokens, seconds| read(&body(tokens, seconds)).sample.latency.per_output_token;
    assert_eq!(of("400", "8.5"), Some(mean(400.0, 8.5)));
    assert_eq!(of("0", "0"), Some(mean(0.0, 0.0)), "none has ended yet");
    assert_eq!(of("400", "NaN"), None);
    assert_eq!(of("-1", "8.5"), None);
    let alone = read("llamacpp:requests_deferred 0\nllamacpp:tokens_predicted_total 400\n").sample;
    assert_eq!(alone.latency.per_output_token, None);
    assert_eq!(alone.generated_tokens_total, Some(400.0));
}

#[test]
fn the_mean_of_a_router_is_over_the_tokens_of_all_its_models() {
    let models = |bodies: &[String]| {
        let reading = |body: &String| ("m".to_owned(), read(body));
        merge_models(bodies.iter().map(reading).collect()).sample.latency
    };
    let both = models(&[body("400", "8.5"), body("100", "1.5")]);
    assert_eq!(both.per_output_token, Some(mean(500.0, 10.0)));
    let without = "llamacpp:requests_deferred 0\nllamacpp:requests_processing 0\n".to_owned();
    assert_eq!(models(&[body("400", "8.5"), without]).per_output_token, None);
}
