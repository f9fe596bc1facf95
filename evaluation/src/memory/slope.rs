//! The slope of a series that outliers do not move: the median of the slopes of all pairs (Theil 1950, Sen 1968).

/// Slope per unit of x; `None` with fewer than two different x.
pub(super) fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes: Vec<f64> = pairs(points)
        .filter(|((x0, _), (x1, _))| x1 > x0)
        .map(|((x0, y0), (x1, y1))| (y1 - y0) / (x1 - x0))
        .collect();
    if slopes.is_empty() {
        return None;
    }
    let middle = slopes.len() / 2;
    let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

/// Share of the pairs that rise among those that differ by more than `tie`: 1 for a series that only rises, about 0.5 for one that goes
/// nowhere. `None` where all are alike.
pub(super) fn rising_share(points: &[(f64, f64)], tie: f64) -> Option<f64> {
    let (mut rising, mut falling) = (0_u32, 0_u32);
    for ((_, y0), (_, y1)) in pairs(points) {
        rising += u32::from(y1 - y0 > tie);
        falling += u32::from(y0 - y1 > tie);
    }
    (rising + falling > 0).then(|| f64::from(rising) / f64::from(rising + falling))
}

type Pair = ((f64, f64), (f64, f64));

fn pairs(points: &[(f64, f64)]) -> impl Iterator<Item = Pair> {
    let before = |at: usize| points.iter().take(at).copied();
    points
        .iter()
        .enumerate()
        .flat_map(move |(at, later)| before(at).map(move |earlier| (earlier, *later)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_has_its_slope() {
        let line: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert_eq!(theil_sen(&line), Some(2.0));
        assert_eq!(rising_share(&line, 0.5), Some(1.0));
    }

    #[test]
    fn a_quarter_of_outliers_does_not_move_it() {
        let line = (0..40).map(|x| (f64::from(x), 2.0 * f64::from(x)));
        let spoilt: Vec<(f64, f64)> = line
            .map(|(x, y)| if x % 4.0 == 1.0 { (x, 1e6) } else { (x, y) })
            .collect();
        let slope = theil_sen(&spoilt).unwrap();
        assert!((1.5..3.0).contains(&slope), "{slope}");
    }

    #[test]
    fn too_few_points_have_none() {
        assert_eq!(theil_sen(&[]), None);
        assert_eq!(theil_sen(&[(1.0, 5.0)]), None);
        assert_eq!(theil_sen(&[(1.0, 5.0), (1.0, 9.0)]), None);
        assert_eq!(rising_share(&[(1.0, 5.0), (2.0, 5.0)], 0.1), None);
    }

    proptest! {
        #[test]
        fn it_lies_within_the_slopes_of_the_pairs(ys in proptest::collection::vec(-1e6_f64..1e6, 2..30)) {
            let points: Vec<(f64, f64)> = ys.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let slope = theil_sen(&points).unwrap();
            let steepest = ys.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f64::max);
            prop_assert!(slope.abs() <= steepest + 1e-6);
        }
    }
}
