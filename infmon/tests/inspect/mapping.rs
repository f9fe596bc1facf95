//! Bodies that are read by the mapping of a file.

use crate::{golden, inspect, server};
use infmon_simulated_engine::{Kind, Mode};
use std::path::Path;

#[tokio::test]
async fn a_mapping_says_what_the_series_of_any_server_mean() {
    let home = server(Kind::Homemade, Mode::Normal).await;
    home.change(|load| {
        load.waiting = 3;
        load.running = 5;
        load.kv_cache_usage = 0.42;
        load.generated_tokens_total = 1000;
        load.time_to_first_token.observe(0.25, 4);
    });
    let mapping = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect/homemade.yaml");
    let body = format!("http://{}", home.address());
    let printed = tokio::task::spawn_blocking(move || {
        let mapping = mapping.display().to_string();
        let text = inspect(&[&body, "--mapping", &mapping], b"");
        let json = inspect(&[&body, "--mapping", &mapping, "--json"], b"");
        (text.0, text.1.replace(&body, "http://home"), text.2, json)
    });
    let (code, text, errors, (_, json, _)) = printed.await.unwrap();
    assert_eq!((code, errors.as_str()), (0, ""));
    golden("homemade.txt", &text);
    golden("homemade.json", &json);
}
