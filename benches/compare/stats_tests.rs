//! Run by `bench_units`, like the tests of `load`.

use crate::stats::{highest, lowest, median};

#[test]
fn what_is_missing_is_not_passed_over() {
    for place in 0..3 {
        let mut values = vec![1.0, 2.0, 3.0];
        values[place] = f64::NAN;
        assert!(lowest(values.clone()).is_nan() && highest(values.clone()).is_nan() && median(values).is_nan());
    }
    assert!(lowest([]).is_nan() && highest([]).is_nan() && median(Vec::new()).is_nan());
}

#[test]
fn the_others_are_what_they_are_called() {
    let values = [2.0, 1.0, 4.0, 3.0];
    let found = [lowest(values), highest(values), median(values.into()), median(vec![5.0, 1.0, 2.0])];
    assert_eq!(found.map(f64::to_bits), [1.0, 4.0, 2.5, 2.0].map(f64::to_bits));
}
