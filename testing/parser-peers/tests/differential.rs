//! What Prometheus' own parsers accept is accepted, and the same series are found.

use infmon_engines::BodyReader;
use infmon_parser_peers::{Changes, Prometheus, compare, compare_with_reference};

/// Spellings that each stand for a rule of the format.
const BODIES: [&str; 40] = [
    "up 1",
    "up 1\n",
    "",
    "\n\n",
    "# EOF\n",
    "# HELP a b\n# TYPE a counter\na 1\n# EOF\n",
    "#\n#x\n#TYPE\n",
    "  \tup\t1\t\n",
    "up{} 1\n",
    "up {} 1\n",
    "up{a=\"b\"}1\n",
    "up{a=\"b\",} 1\n",
    "up{ a = \"b\" , c = \"\" , } 1\n",
    "up{a=\"b\" c=\"d\"} 1\n",
    "up{a=\"b\"c=\"d\"} 1\n",
    "up{a=\"b\nc\"} 1\n",
    "up{a=\"\\\\\\\"\\n\\q\"} 1\n",
    "up{a=\"}{,= #\"} 1\n",
    "up{a=\"modèle/日本\"} 1\n",
    "{\"a.b\"} 1\n",
    "{\"a.b\",c=\"d\"} 1\n",
    "{c=\"d\",\"a.b\"} 1\n",
    "a{\"b c\"=\"d\"} 1\n",
    "{\"a\\\"b\",\"c\\\\d\"=\"e\"} 1\n",
    "a NaN\nb nan\nc +Inf\nd -Inf\ne inf\nf Infinity\ng -infinity\n",
    "a 1e3\nb 1E+03\nc 1e-003\nd .5\ne 5.\nf +4\ng -0\nh 00012\n",
    "a 4.9e-324\nb 1.7976931348623157e308\nc 0.1\nd 123456789012345678\n",
    "a 1 1700000000000\n",
    "a_bucket{le=\"1\"} 1\na_bucket{le=\"1.0\"} 1\na_bucket{le=\"+Inf\"} 1\na_bucket{le=\"0.00015000000000000001\"} 1\n",
    "# TYPE a histogram\na_bucket{le=\"1\"} 1 # {trace_id=\"x\"} 0.5 1.5\na_sum 1\na_count 1\n# EOF\n",
    "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1 1700000000.5\n# EOF\n",
    "a{le=\"1\",b=\"c\"} 1\na{le=\"2\",b=\"c\"} 1\na{b=\"c\",le=\"2\"} 1\na{le=\"2\",b=\"c\",} 1\na{le=\"\\\\\",b=\"c\"} 1\n",
    "a{a=\"1\",a=\"2\"} 1\n",
    "a:b:c 1\n:a 1\n_ 1\n",
    "# TYPE \"a b\" gauge\n{\"a b\"} 1\n",
    "# HELP a \\\\ \\n \"\n# TYPE a untyped\na 1\n",
    "a{b=\"c\"} 1\n\n\na{b=\"c\"} 2\n",
    "a 1\na_b 1\na_b_c 1\nab 1\n",
    "# TYPE a summary\na{quantile=\"0.5\"} Nan\na_sum 1\na_count 0\n",
    "a{b=\"\",c=\"\"} 1\n",
];

fn prometheus() -> Option<Prometheus> {
    match Prometheus::start() {
        Ok(prometheus) => Some(prometheus),
        Err(error) => {
            println!("skipped: Prometheus' parsers cannot be built here: {error:#}");
            None
        }
    }
}

#[test]
fn spellings_of_the_format_are_read_as_prometheus_reads_them() {
    let Some(mut prometheus) = prometheus() else { return };
    for body in BODIES {
        let found = prometheus.series(body.as_bytes()).expect("an answer");
        assert!(
            found.text.is_ok() || found.openmetrics.is_ok(),
            "not for Prometheus: {body:?}, {found:?}"
        );
        if let Err(difference) = compare(body.as_bytes(), &found) {
            panic!("{body:?} is read {difference}");
        }
    }
}

#[test]
fn changed_bodies_are_read_as_prometheus_reads_them() {
    let Some(mut prometheus) = prometheus() else { return };
    let mut changes = Changes::new(1);
    let mut reader = BodyReader::new(None);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let body = changes.next_body();
        let found = prometheus.series(&body).expect("an answer");
        if found.text.is_ok() || found.openmetrics.is_ok() {
            accepted += 1;
        } else {
            refused += 1;
        }
        for checked in [compare(&body, &found), compare_with_reference(&body, &mut reader)] {
            if let Err(difference) = checked {
                panic!("{:?} is read {difference}", String::from_utf8_lossy(&body));
            }
        }
    }
    println!("{accepted} bodies that Prometheus accepts, {refused} that it refuses");
    assert!(accepted > 200 && refused > 200, "both kinds: {accepted}, {refused}");
}
