//! Compares a run with the published one: which figures agree, and which aims are no longer met.

use crate::{
    aims,
    data::{Entry, Evidence, Figure},
    markdown::{number, table},
    noise::Noise,
};

/// A figure that both runs have.
#[derive(Debug)]
struct Pair {
    part: &'static str,
    name: String,
    published: f64,
    fresh: f64,
    noise: Noise,
    /// The verdict of each run on the aim.
    verdicts: [&'static str; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pairs: Vec<Pair>,
    only_published: Vec<String>,
    only_fresh: Vec<String>,
    /// Parts that failed in the fresh run, but not in the published one.
    failed: Vec<&'static str>,
    /// Parts with a short run on either side.
    short: Vec<&'static str>,
}

pub(crate) fn compared(published: &Evidence, fresh: &Evidence) -> Comparison {
    let mut all = Comparison::default();
    for (old, new) in published.0.iter().zip(&fresh.0) {
        let part = old.part.name;
        let (olds, news) = (seen(old), seen(new));
        let failed_before = !old.data.is_null() && old.failure().is_some();
        if !new.data.is_null() && new.failure().is_some() && !failed_before {
            all.failed.push(part);
        }
        if !olds.is_empty() && !news.is_empty() && (old.is_quick() || new.is_quick()) {
            all.short.push(part);
        }
        for (figure, published) in &olds {
            let Some((again, fresh)) = news.iter().find(|(again, _)| again.name == figure.name) else {
                all.only_published.push(format!("{part} {}", figure.name));
                continue;
            };
            let (noise, verdicts) = (Noise::of(figure.name, old, new), [old.verdict(figure), new.verdict(again)]);
            let (name, published, fresh) = (figure.name.to_owned(), *published, *fresh);
            all.pairs.push(Pair { part, name, published, fresh, noise, verdicts });
        }
        let is_new = |(figure, _): &&(Figure<'_>, f64)| olds.iter().all(|(known, _)| known.name != figure.name);
        all.only_fresh.extend(news.iter().filter(is_new).map(|(figure, _)| format!("{part} {}", figure.name)));
    }
    all
}

/// The figures that have a value.
fn seen(entry: &Entry) -> Vec<(Figure<'_>, f64)> {
    let all = entry.figures().into_iter().filter_map(|figure| Some((figure, figure.value?)));
    all.filter(|(_, value)| value.is_finite()).collect()
}

impl Pair {
    fn agrees(&self) -> bool {
        self.noise.covers(self.published, self.fresh)
    }

    /// The aim was met, and is now missed by more than the noise.
    fn is_lost(&self) -> bool {
        self.verdicts == ["met", "**missed**"] && !self.agrees()
    }

    fn row(&self) -> Vec<String> {
        let ratio = self.fresh / self.published;
        let noise = match self.noise {
            Noise::OfRounds(width) => format!("{:.0} %", width * 100.0),
            Noise::Tolerance => format!("{:.0} %, default", self.noise.width() * 100.0),
        };
        let agreement = if self.agrees() { "agree" } else { "**differ**" };
        let aim = aims::of(&self.name).map_or_else(String::new, aims::Aim::shown);
        let verdict = match self.verdicts {
            [old, new] if old == new => old.to_owned(),
            [old, new] => format!("{old} → {new}"),
        };
        let [published, fresh, ratio] = [self.published, self.fresh, ratio].map(number);
        vec![
            self.part.to_owned(),
            format!("`{}`", self.name),
            published,
            fresh,
            ratio,
            noise,
            agreement.to_owned(),
            aim,
            verdict,
        ]
    }
}

impl Comparison {
    /// Parts that failed, and did not fail before.
    pub(crate) fn failed(&self) -> &[&'static str] {
        &self.failed
    }

    /// Aims that were met, and are now missed by more than the noise.
    pub(crate) fn lost(&self) -> Vec<String> {
        let lost = self.pairs.iter().filter(|pair| pair.is_lost());
        lost.map(|pair| format!("{} {}", pair.part, pair.name)).collect()
    }

    /// The table, the figures that only one run has, and a last line for programs.
    pub(crate) fn text(&self) -> String {
        let rows: Vec<_> = self.pairs.iter().map(Pair::row).collect();
        let mut out = table(
            &["part", "figure", "published", "fresh", "fresh ÷ published", "noise", "agreement", "aim", "verdict"],
            &rows,
        );
        let short: Vec<_> = self.short.iter().map(|part| (*part).to_owned()).collect();
        let failed: Vec<_> = self.failed.iter().map(|part| (*part).to_owned()).collect();
        for (what, which) in [
            ("Only in the published run", &self.only_published),
            ("Only in the fresh run", &self.only_fresh),
            ("Short runs, to which no aim applies", &short),
            ("Newly failed", &failed),
        ] {
            if !which.is_empty() {
                out += &format!("\n{what}: {}.\n", which.join(", "));
            }
        }
        let agree = self.pairs.iter().filter(|pair| pair.agrees()).count();
        out += &format!(
            "\nevidence against: figures={} agree={agree} differ={} lost={} failed={} only_published={} only_fresh={}\n",
            self.pairs.len(),
            self.pairs.len() - agree,
            self.lost().len(),
            self.failed.len(),
            self.only_published.len(),
            self.only_fresh.len()
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::parts::PARTS;

    /// `append` with these figures, on a full run, with the rounds of `tasks32_vs_insert`; and a drill.
    fn evidence(figures: &[(&str, f64)], rounds: [f64; 5], anomalies: Option<u64>) -> Evidence {
        let figures: Vec<Value> = figures.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let lanes = json!([{"name": "guarded append, 32 tasks", "per_second": rounds}, {"name": "INSERT", "per_second": [1.0, 1.0, 1.0, 1.0, 1.0]}]);
        let append = json!({"status": "ok", "quick": false, "result": {
            "figures": figures, "tables": [{"title": "tasks with a boundary each", "lanes": lanes}],
        }});
        let drill =
            anomalies.map(|count| json!({"status": "ok", "quick": false, "result": {"values": {"anomalies": count}}}));
        let of = |name: &str| match name {
            "append" => append.clone(),
            "drill-append" => drill.clone().unwrap_or_default(),
            _ => Value::Null,
        };
        Evidence(PARTS.iter().map(|part| Entry { part, data: of(part.name) }).collect())
    }

    const CALM: [f64; 5] = [2.2, 2.2, 2.2, 2.2, 2.2];
    const NOISY: [f64; 5] = [1.5, 1.8, 2.2, 2.6, 3.0];

    fn tasks(published: f64, fresh: f64, rounds: [f64; 5]) -> Comparison {
        let of = |value| evidence(&[("tasks32_vs_insert", value)], rounds, None);
        compared(&of(published), &of(fresh))
    }

    #[test]
    fn what_was_met_and_is_missed_beyond_the_noise_is_lost() {
        assert_eq!(tasks(2.2, 1.9, CALM).lost(), ["append tasks32_vs_insert"]);
        assert_eq!(tasks(2.2, 1.9, NOISY).lost(), [""; 0], "that is noise");
        assert_eq!(tasks(1.9, 1.2, CALM).lost(), [""; 0], "it was missed before");
        assert_eq!(tasks(2.9, 2.2, CALM).lost(), [""; 0], "it is met all the same");
    }

    #[test]
    fn a_table_says_how_far_the_two_are_from_each_other() {
        let text = tasks(2.2, 1.9, CALM).text();
        let row = "| append | `tasks32_vs_insert` | 2.20 | 1.90 | 0.864 | 0 % | **differ** | ≥ 2 | met → **missed** |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.ends_with(
                "evidence against: figures=1 agree=0 differ=1 lost=1 failed=0 only_published=0 only_fresh=0\n"
            ),
            "{text}"
        );
        let text = tasks(2.2, 2.4, NOISY).text();
        assert!(text.contains("| 1.09 | 36 % | agree | ≥ 2 | met |"), "{text}");
    }

    #[test]
    fn what_only_one_of_them_has_is_named() {
        let old = evidence(&[("hot_vs_origin", 6.0), ("tasks32_vs_insert", 2.2)], CALM, None);
        let new = evidence(&[("tasks32_vs_insert", 2.2), ("max_ms", 7.0)], CALM, Some(0));
        let both = compared(&old, &new);
        let text = both.text();
        assert!(text.contains("\nOnly in the published run: append hot_vs_origin.\n"), "{text}");
        assert!(text.contains("\nOnly in the fresh run: append max_ms, drill-append anomalies.\n"), "{text}");
        assert_eq!(both.lost(), [""; 0], "what was not measured is not missed");
    }

    #[test]
    fn one_anomaly_more_than_none_is_no_noise() {
        let of = |count| evidence(&[], CALM, Some(count));
        assert_eq!(compared(&of(0), &of(1)).lost(), ["drill-append anomalies"]);
        assert_eq!(compared(&of(0), &of(0)).lost(), [""; 0]);
    }

    #[test]
    fn a_part_that_has_failed_is_told() {
        let of = |failed: bool| {
            let mut all = evidence(&[("tasks32_vs_insert", 2.2)], CALM, None);
            let append = all.0.iter_mut().find(|entry| entry.part.name == "append").unwrap();
            if failed {
                append.data = json!({"status": "failed", "reason": "no disk"});
            }
            all
        };
        let both = compared(&of(false), &of(true));
        assert_eq!(both.failed(), ["append"]);
        assert!(both.text().contains("\nNewly failed: append.\n"), "{}", both.text());
        for (old, new) in [(false, false), (true, true), (true, false)] {
            assert!(compared(&of(old), &of(new)).failed().is_empty());
        }
        // What was not run again has not failed.
        let mut partial = of(false);
        partial.0.iter_mut().for_each(|entry| entry.data = Value::Null);
        assert!(compared(&of(false), &partial).failed().is_empty());
    }

    #[test]
    fn no_aim_counts_on_a_short_run() {
        let (old, mut new) =
            (evidence(&[("tasks32_vs_insert", 2.2)], CALM, None), evidence(&[("tasks32_vs_insert", 1.0)], CALM, None));
        new.0
            .iter_mut()
            .filter(|entry| entry.part.name == "append")
            .for_each(|entry| entry.data["quick"] = json!(true));
        let both = compared(&old, &new);
        assert_eq!(both.lost(), [""; 0]);
        assert!(both.text().contains("\nShort runs, to which no aim applies: append.\n"), "{}", both.text());
        assert!(both.text().contains("met → short run"), "{}", both.text());
    }
}
