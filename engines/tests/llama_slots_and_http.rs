//! llama.cpp's `/slots`, and what HTTP errors mean.

use infmon_engines::{EngineSample, HttpProblem, Slots, SlotsError, explain_http, merge_slots, read_slots};

#[test]
fn slots_of_every_build_are_read() {
    let table: [(&str, &[u8], Slots); 5] = [
        (
            "b11669, running server: n_prompt_tokens includes the generated tokens (847 = 76 + 20 + 751)",
            include_bytes!("bodies/llama-server-0.7.0-b11669-slots.json"),
            Slots {
                total: 2,
                busy: 2,
                context_tokens: 2048,
                used_tokens: Some(847 + 866),
            },
        ),
        (
            "b10519: one busy slot, one released slot that keeps its tokens, two never used",
            include_bytes!("bodies/llamacpp-slots-b10519.json"),
            Slots {
                total: 4,
                busy: 1,
                context_tokens: 4 * 65536,
                used_tokens: Some(2113),
            },
        ),
        (
            "b6700: next_token is an object, and nothing says how many tokens are held",
            br#"[{"id":0,"id_task":7,"n_ctx":4096,"speculative":false,"is_processing":true,"params":{"n_predict":-1},
                 "next_token":{"has_next_token":true,"has_new_line":false,"n_remain":-1,"n_decoded":3}}]"#,
            Slots {
                total: 1,
                busy: 1,
                context_tokens: 4096,
                used_tokens: None,
            },
        ),
        (
            "before b4027: an integer state",
            include_bytes!("bodies/llamacpp-slots-pre-b4027.json"),
            Slots {
                total: 2,
                busy: 1,
                context_tokens: 4096,
                used_tokens: None,
            },
        ),
        (
            "idle: no request holds a token, whatever the build",
            br#"[{"id":0,"state":0,"n_ctx":2048},{"id":1,"n_ctx":2048,"is_processing":false,"n_prompt_tokens":1821}]"#,
            Slots {
                total: 2,
                busy: 0,
                context_tokens: 4096,
                used_tokens: Some(0),
            },
        ),
    ];
    for (name, body, slots) in table {
        assert_eq!(read_slots(body), Ok(slots), "{name}");
    }
}

#[test]
fn what_is_no_slot_list_is_refused_without_repeating_it() {
    let secret = br#"[{"id":0,"is_processing":"my secret prompt"}]"#;
    let error = read_slots(secret).expect_err("no bool");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(read_slots(b"[]"), Err(SlotsError::Count(0)));
    assert_eq!(read_slots(br#"[{"id":0,"n_ctx":1}]"#), Err(SlotsError::NoState));
    for body in [
        "",
        "{}",
        "null",
        r#"{"error":{"code":501}}"#,
        r#"[{"is_processing":true,"n_ctx":-1}]"#,
    ] {
        assert!(
            matches!(read_slots(body.as_bytes()), Err(SlotsError::NotSlots { .. })),
            "{body}"
        );
    }
}

#[test]
fn slots_fill_in_what_the_metrics_lack() {
    let slots = Slots {
        total: 2,
        busy: 2,
        context_tokens: 2048,
        used_tokens: Some(1713),
    };
    let mut sample = EngineSample {
        running: Some(2.0),
        waiting: Some(36.0),
        ..EngineSample::default()
    };
    merge_slots(&mut sample, &slots);
    assert_eq!(sample.max_concurrency, Some(2.0));
    assert_eq!(sample.kv_cache_usage, Some(1713.0 / 2048.0));
    assert_eq!((sample.running, sample.waiting), (Some(2.0), Some(36.0)));

    let mut old_build = EngineSample {
        kv_cache_usage: Some(0.5),
        ..EngineSample::default()
    };
    merge_slots(&mut old_build, &slots);
    assert_eq!(old_build.kv_cache_usage, Some(0.5));

    for unknown in [
        Slots {
            used_tokens: None,
            ..slots
        },
        Slots {
            context_tokens: 0,
            ..slots
        },
    ] {
        let mut sample = EngineSample::default();
        merge_slots(&mut sample, &unknown);
        assert_eq!(sample.kv_cache_usage, None);
    }
}

#[test]
fn http_errors_name_the_next_step() {
    let loading = br#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    let old_order = br#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let disabled = br#"{"error":{"code":501,"message":"This server does not support metrics endpoint.","type":"not_supported_error"}}"#;
    let table: [(u16, &[u8], &str, HttpProblem, &str); 12] = [
        (
            501,
            disabled,
            "/metrics",
            HttpProblem::MetricsDisabled,
            "--metrics (or LLAMA_ARG_ENDPOINT_METRICS=1)",
        ),
        (501, disabled, "/slots?x=1", HttpProblem::MetricsDisabled, "--slots"),
        (501, b"", "/metrics", HttpProblem::MetricsDisabled, "--metrics"),
        (401, b"", "/metrics", HttpProblem::Unauthorized, "API key"),
        (403, b"", "/metrics", HttpProblem::Unauthorized, "403"),
        (503, loading, "/metrics", HttpProblem::Loading, "loads its model"),
        (503, old_order, "/metrics", HttpProblem::Loading, "loads its model"),
        (503, b"upstream down", "/metrics", HttpProblem::HttpStatus, "503"),
        (
            404,
            b"{\"detail\":\"Not Found\"}",
            "/metrics",
            HttpProblem::HttpStatus,
            "--enable-metrics",
        ),
        (302, b"", "/metrics", HttpProblem::HttpStatus, "not followed"),
        (
            400,
            b"{\"error\":{\"message\":\"model name is missing\"}}",
            "/metrics",
            HttpProblem::HttpStatus,
            "router",
        ),
        (
            500,
            b"{\"error\":\"a\\nb\"}",
            "/metrics",
            HttpProblem::HttpStatus,
            "\"a b\"",
        ),
    ];
    for (status, body, path, kind, words) in table {
        let explanation = explain_http(status, body, path);
        assert_eq!(explanation.kind, kind, "{status} {path}");
        assert!(explanation.message.contains(words), "{status}: {}", explanation.message);
        assert!(!explanation.message.contains('\n'));
    }
}
