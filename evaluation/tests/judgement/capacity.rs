//! What the servers hold: a number only where every endpoint tells it.

use crate::scene::{Server, scene, server};
use infmon_evaluation::{Capacity, Moment, NAMES_MAX, Totals};
use std::time::Duration;

fn told(name: &str) -> Server {
    server(name).says(|sample| {
        sample.max_concurrency = Some(256.0);
        sample.kv_cache_capacity_tokens = Some(100_000.0);
        sample.host_cache_usage = Some(0.25);
        sample.sleeping = Some(false);
        sample.models = vec!["llama".into()];
        sample.lora_adapters = vec![format!("adapter-{name}")];
    })
}

/// What is summed up of the servers, by `look`.
fn of<T>(servers: Vec<Server>, look: impl FnOnce(&Capacity<'_>) -> T) -> T {
    let mut scene = scene(servers);
    scene.look();
    let totals = Totals::of(
        &scene.resolution,
        &scene.observations,
        Duration::from_secs(10),
        Moment::from_secs(scene.now),
    );
    look(&Capacity::of(&totals))
}

#[test]
fn all_that_every_endpoint_tells_is_summed_up() {
    let fuller = told("b").says(|sample| {
        sample.host_cache_usage = Some(0.5);
        sample.sleeping = Some(true);
        sample.models = vec!["llama".into(), "qwen".into()];
    });
    of(vec![told("a"), fuller], |capacity| {
        assert_eq!(capacity.max_concurrency, Some(512.0));
        assert_eq!(capacity.kv_cache_capacity_tokens, Some(200_000.0));
        assert_eq!(capacity.host_cache_usage, Some(0.5));
        assert_eq!(capacity.sleeping, Some(1));
        assert_eq!(capacity.models, ["llama", "qwen"].into());
        assert_eq!(capacity.lora_adapters, ["adapter-a", "adapter-b"].into());
    });
}

#[test]
fn one_endpoint_that_does_not_tell_makes_a_number_unknown() {
    let silent = [
        server("b"),
        told("b").age(60_000),
        told("b").unreported(),
        told("b").no_sample(),
    ];
    for other in silent {
        of(vec![told("a"), other], |capacity| {
            assert_eq!(capacity.max_concurrency, None);
            assert_eq!(capacity.kv_cache_capacity_tokens, None);
            assert_eq!(capacity.host_cache_usage, None);
            assert_eq!(capacity.sleeping, None);
            assert!(capacity.models.contains("llama"));
        });
    }
    of(vec![], |capacity| assert_eq!(*capacity, Capacity::default()));
    // One that takes no requests blocks nothing, and adds nothing.
    of(vec![told("a"), server("b").not_ready()], |capacity| {
        assert_eq!(capacity.max_concurrency, Some(256.0));
    });
}

#[test]
fn names_are_bounded() {
    let many = told("a").says(|sample| sample.models = (0..1000).map(|number| format!("m{number:04}")).collect());
    of(vec![many], |capacity| {
        assert_eq!(capacity.models.len(), NAMES_MAX);
        assert!(capacity.models.contains("m0000"));
    });
}
