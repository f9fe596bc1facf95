use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The table of `TestSelectorMatches` in apimachinery `pkg/labels/selector_test.go`, and cases of our own.
#[test]
fn selectors_match_like_the_originals() {
    let long = "a".repeat(63);
    for (selector, object, expected) in [
        ("", &[("x", "y")][..], true),
        ("   ", &[], true),
        ("x=y", &[("x", "y")], true),
        ("x==y", &[("x", "y")], true),
        ("x = y", &[("x", "y")], true),
        ("x=y,z=w", &[("x", "y"), ("z", "w")], true),
        ("x=y , z=w", &[("x", "y"), ("z", "w")], true),
        ("x!=y,z!=w", &[("x", "z"), ("z", "a")], true),
        ("notin=in", &[("notin", "in")], true),
        ("in in (in,notin)", &[("in", "notin")], true),
        ("x", &[("x", "z")], true),
        ("!x", &[("y", "z")], true),
        ("! x", &[("y", "z")], true),
        ("x>1", &[("x", "2")], true),
        ("x<1", &[("x", "0")], true),
        ("x>1,z<5", &[("x", "2"), ("z", "4")], true),
        ("x=z", &[], false),
        ("x=y", &[("x", "z")], false),
        ("x=y,z=w", &[("x", "w"), ("z", "w")], false),
        ("x!=y,z!=w", &[("x", "z"), ("z", "w")], false),
        ("x", &[("y", "z")], false),
        ("!x", &[("x", "z")], false),
        ("x>1", &[("x", "0")], false),
        ("x>1", &[("x", "many")], false),
        ("x<1", &[("x", "2")], false),
        ("x<1", &[], false),
        ("x=", &[("x", "")], true),
        ("x=", &[], false),
        ("x= ,z", &[("x", ""), ("z", "1")], true),
        ("x!=", &[("x", "")], false),
        ("x!=a", &[], true),
        ("x in (a,b)", &[("x", "b")], true),
        ("x in ( a , b )", &[("x", "a")], true),
        ("x in(a)", &[("x", "a")], true),
        ("x notin (a,b)", &[("x", "c")], true),
        ("x notin (a,b)", &[("x", "a")], false),
        ("x notin (a,b)", &[], true),
        ("x in (,a)", &[("x", "")], true),
        ("x in (a,)", &[("x", "")], true),
        ("x in (,)", &[("x", "")], true),
        ("x in (a,,b)", &[("x", "")], true),
        ("x in (a,b),!y,z>0", &[("x", "a"), ("z", "1")], true),
        ("example.com/name=llama-70b", &[("example.com/name", "llama-70b")], true),
        (&format!("x={long}"), &[("x", &long)], true),
    ] {
        let parsed: LabelSelector = selector.parse().unwrap_or_else(|error| panic!("{selector:?}: {error}"));
        assert_eq!(parsed.matches(&labels(object)), expected, "{selector:?} on {object:?}");
    }
}

#[test]
fn malformed_selectors_are_refused_with_a_reason() {
    let long = "a".repeat(64);
    for (selector, reason) in [
        ("x=a||y=b", "invalid value"),
        ("x==a==b", "expected ','"),
        ("!x=a", "expected ','"),
        ("x<a", "integer"),
        ("x>", "integer"),
        ("x>1.5", "integer"),
        (",", "a label key"),
        ("x,", "after ','"),
        ("x,,y", "after ','"),
        ("=a", "a label key"),
        ("!", "a label key"),
        ("!!x", "a label key"),
        ("x in", "'('"),
        ("x in a", "'('"),
        ("x in (", "a value"),
        ("x in (a", "',' or ')'"),
        ("x in (a b)", "',' or ')'"),
        ("x in ()", "must not be empty"),
        ("x notin ()", "must not be empty"),
        ("x in (a))", "expected ','"),
        ("x is a", "one of"),
        ("x(a)", "one of"),
        ("x=(a)", "a value"),
        ("x in (a=b)", "',' or ')'"),
        ("x\0=a", "invalid label key"),
        ("-x=a", "invalid label key"),
        ("a/b/c=d", "invalid label key"),
        ("/x=a", "DNS subdomain"),
        ("UPPER/x=a", "DNS subdomain"),
        ("a..b/x=a", "DNS subdomain"),
        ("x=-a", "invalid value"),
        ("größe=a", "invalid label key"),
        ("x=ä", "invalid value"),
        (&format!("{long}=a"), "invalid label key"),
        (&format!("x={long}"), "invalid value"),
    ] {
        let error = selector.parse::<LabelSelector>().expect_err(selector);
        assert!(error.to_string().contains(reason), "{selector:?}: {error}");
    }
}
