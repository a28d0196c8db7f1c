//! The computations behind the last figures of `peers`. Run by `bench_units`, like those of `load`.

use crate::ratios::{Counts, Ratios, Worst};

/// Three rows, of which two count for all; `x` failed after the first, and `y` has no ratio in the last.
fn ratios() -> Ratios {
    let mut ratios = Ratios::default();
    for (title, counts, values) in [
        ("16", Counts::All, &[("x", 3.0), ("y", 4.0), ("z", 5.0)][..]),
        ("32", Counts::EachRow, &[("y", 0.5), ("z", 0.5)]),
        ("64", Counts::All, &[("y", f64::NAN), ("z", 2.0)]),
        ("hot", Counts::UmaDb, &[("y", 0.1), ("z", 0.2)]),
    ] {
        ratios.row(title, counts);
        values.iter().for_each(|(store, value)| ratios.add(store, *value));
    }
    ratios
}

fn shown(worst: &Worst) -> String {
    format!("{} {:?}", worst.value, worst.incomplete())
}

#[test]
fn only_rows_that_count_do() {
    let ratios = ratios();
    assert_eq!(shown(&ratios.worst("z", &[Counts::All])), "2 None");
    assert_eq!(shown(&ratios.worst("z", &[Counts::All, Counts::UmaDb])), "0.2 None");
}

#[test]
fn a_ratio_that_is_missing_or_none_is_told() {
    let ratios = ratios();
    assert_eq!(shown(&ratios.worst("x", &[Counts::All])), "3 Some(\"no ratio beside x in 64\")");
    assert_eq!(shown(&ratios.worst("y", &[Counts::All])), "4 Some(\"no ratio beside y in 64\")");
    assert_eq!(shown(&ratios.worst("w", &[Counts::All])), "NaN Some(\"no ratio beside w in 16, w in 64\")");
}

#[test]
fn what_one_store_lacks_all_of_them_lack() {
    let ratios = ratios();
    let both = Worst::of(["x", "z"].map(|store| ratios.worst(store, &[Counts::All])));
    assert_eq!(shown(&both), "2 Some(\"no ratio beside x in 64\")");
    let with_absent = Worst::of([ratios.worst("z", &[Counts::All]), Worst::nothing_of("w")]);
    assert_eq!(shown(&with_absent), "2 Some(\"no ratio beside w\")");
    assert!(Worst::of([]).value.is_nan());
}
