//! What the files of older runs lack, made good from what they have, so that the report judges all runs alike.

use serde_json::{Value, json};

/// As the benchmark calls it (`benches/compare/load/space.rs`).
const TOO_SHORT: &str = "too short to tell";
const OLD_ROOM: &str = "went into room in pages that were there";
const ENOUGH: u64 = 1000;

/// PostgreSQL compresses nothing in a row that is not much longer, so that the payload is in it as long as it is.
const NOT_COMPRESSED: f64 = 1000.0;

/// Loads of a time when they did not say how many events their bytes are of, and when the figures were those of one dimension.
pub(crate) fn mend(data: &mut Value) {
    // What is not there must not come to be by being asked for.
    let is_scale = data["part"] == "scale";
    let Some(result) = data.get_mut("result").filter(|result| result["tables"].is_array()) else { return };
    let usual = result["facts"]["payload_bytes"].as_f64();
    let mut loads = Vec::new();
    for table in result["tables"].as_array_mut().into_iter().flatten() {
        let title = table["title"].as_str().unwrap_or_default().to_owned();
        for lane in table.get_mut("lanes").and_then(Value::as_array_mut).into_iter().flatten() {
            let bytes = lane.get("bytes_per_event").filter(|bytes| bytes.is_object());
            if bytes.is_none_or(|bytes| bytes["events"].is_u64()) {
                continue;
            }
            judge(lane, usual);
            let label = format!("{title} {}", lane["name"].as_str().unwrap_or_default());
            loads.push((label, lane.clone()));
        }
    }
    if !is_scale || loads.is_empty() {
        return;
    }
    let ratios = ["disk", "wal"].map(|field| {
        let all = loads.iter().filter_map(|(label, lane)| Some((ratio(lane, field, &loads)?, label)));
        all.max_by(|(one, _), (other, _)| one.total_cmp(other))
    });
    for figure in result.get_mut("figures").and_then(Value::as_array_mut).into_iter().flatten() {
        let (most, what, of) = match figure["name"].as_str() {
            Some("disk_vs_origin") => (&ratios[0], "bytes on disk", "for such events, at all loads"),
            Some("wal_vs_origin") => (&ratios[1], "bytes of the write-ahead log", "for the same events"),
            _ => continue,
        };
        let (value, at) = most.map_or((None, TOO_SHORT), |(value, label)| (Some(value), label));
        figure["value"] = json!(value);
        figure["made_of"] = json!(format!(
            "{what} for each event ÷ of the origin's table with its four indexes, {of}: the most of all loads beside it, at {at}; \
             calculated anew from the loads of an older run"
        ));
    }
}

fn judge(lane: &mut Value, usual: Option<f64>) {
    let count = |of: &Value| of["latency"]["count"].as_u64().unwrap_or_default();
    let waiting = lane["paced"]["waiting"].as_u64().unwrap_or_default();
    let events = count(lane) + count(&lane["paced"]).saturating_sub(waiting);
    let payload = lane["payload"].as_f64().or(usual).filter(|bytes| *bytes <= NOT_COMPRESSED);
    for whose in ["bytes_per_event", "origin_bytes_per_event"] {
        let Some(of) = lane.get_mut(whose) else { continue };
        let Some(table) = of["table"].as_f64() else { continue };
        of["events"] = json!(events);
        if events < ENOUGH {
            of["left_out"] = json!(TOO_SHORT);
        } else if payload.is_some_and(|payload| table < payload) {
            of["left_out"] = json!(OLD_ROOM);
        }
    }
}

/// Ours ÷ the origin's; none where it would say nothing.
fn ratio(lane: &Value, field: &str, loads: &[(String, Value)]) -> Option<f64> {
    if !tells(lane, field) {
        return None;
    }
    let origin = match field {
        "disk" => origin_disk(lane, loads),
        _ => lane["origin_bytes_per_event"][field].as_f64(),
    };
    Some(lane["bytes_per_event"][field].as_f64()? / origin?).filter(|value| value.is_finite())
}

/// Whether both are there, and their bytes are those of their events. Whoever finds room writes it to the log all the same.
fn tells(lane: &Value, field: &str) -> bool {
    ["bytes_per_event", "origin_bytes_per_event"].iter().all(|whose| {
        let fault = lane[whose]["left_out"].as_str();
        lane[whose].is_object() && (fault.is_none() || (field != "disk" && fault != Some(TOO_SHORT)))
    })
}

/// At all loads with such events, as the benchmark does it, and for its reason.
fn origin_disk(lane: &Value, loads: &[(String, Value)]) -> Option<f64> {
    let origins = loads.iter().filter(|(_, other)| other["payload"] == lane["payload"]);
    let origins = origins
        .map(|(_, other)| &other["origin_bytes_per_event"])
        .filter(|of| of.is_object() && of["left_out"].is_null());
    let (mut bytes, mut events) = (0.0, 0.0);
    for of in origins {
        let amount = of["events"].as_f64()?;
        bytes += of["disk"].as_f64()? * amount;
        events += amount;
    }
    Some(bytes / events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, payload: Option<u64>, counts: [u64; 3], ours: [f64; 2], origin: [f64; 2]) -> Value {
        let [fast, paced, waiting] = counts;
        let bytes = |[table, indexes]: [f64; 2]| json!({"table": table, "indexes": indexes, "disk": table + indexes, "wal": 100.0});
        json!({
            "name": name, "payload": payload, "latency": {"count": fast},
            "paced": {"waiting": waiting, "latency": {"count": paced}},
            "bytes_per_event": bytes(ours), "origin_bytes_per_event": bytes(origin),
        })
    }

    fn scale(lanes: &[Value]) -> Value {
        json!({"part": "scale", "result": {
            "facts": {"payload_bytes": 305},
            "figures": [{"name": "disk_vs_origin", "value": 1.01, "made_of": "of the payload"}, {"name": "writers64_vs_1", "value": 9.0}],
            "tables": [{"title": "rate", "lanes": lanes}],
        }})
    }

    fn mended(lanes: &[Value]) -> Value {
        let mut data = scale(lanes);
        mend(&mut data);
        data["result"].take()
    }

    #[test]
    fn the_figure_is_of_all_dimensions() {
        let result = mended(&[
            lane("10", None, [1000, 0, 0], [600.0, 300.0], [600.0, 150.0]),
            lane("20", None, [1000, 0, 0], [600.0, 100.0], [600.0, 200.0]),
        ]);
        // The origin has taken 750 and 800 bytes for each of as many events: 775.
        assert_eq!(result["figures"][0]["value"], 900.0 / 775.0);
        // Whoever has nothing beside it is not among them.
        let mut alone = lane("2", None, [1000, 0, 0], [900.0, 900.0], [1.0, 1.0]);
        alone["origin_bytes_per_event"] = Value::Null;
        let beside = lane("10", None, [1000, 0, 0], [600.0, 300.0], [600.0, 150.0]);
        assert_eq!(mended(&[alone, beside])["figures"][0]["value"], 1.2);
        assert!(result["figures"][0]["made_of"].as_str().unwrap().contains("at rate 10; calculated anew"), "{result}");
        assert_eq!(result["figures"][1]["value"], 9.0);
    }

    #[test]
    fn short_runs_and_old_room_do_not_count() {
        let short = lane("short", None, [400, 700, 101], [900.0, 300.0], [600.0, 150.0]);
        let small = lane("small", Some(200), [5000, 0, 0], [30.0, 900.0], [600.0, 1.0]);
        let usual = lane("usual", None, [5000, 0, 0], [300.0, 900.0], [600.0, 1.0]);
        let large = lane("large", Some(16_000), [900, 101, 1], [4000.0, 500.0], [4000.0, 0.0]);
        let result = mended(&[short, small, usual, large]);
        let left_out = |number: usize| result["tables"][0]["lanes"][number]["bytes_per_event"]["left_out"].as_str();
        assert_eq!([0, 1, 2, 3].map(left_out), [Some(TOO_SHORT), Some(OLD_ROOM), Some(OLD_ROOM), None]);
        assert_eq!(result["figures"][0]["value"], 1.125);
        let none = mended(&[lane("short", None, [999, 0, 0], [900.0, 300.0], [600.0, 150.0])]);
        assert_eq!(none["figures"][0]["value"], Value::Null);
    }

    #[test]
    fn what_is_of_another_kind_stays() {
        let drill = json!({"part": "drill-append", "status": "ok", "result": {"values": {"anomalies": 0}}});
        let append = json!({"part": "append", "result": {"tables": [{"title": "x", "lanes": [{"name": "INSERT"}]}, {"title": "y"}]}});
        for data in [Value::Null, json!({"part": "scale", "status": "failed"}), drill, append] {
            let mut after = data.clone();
            mend(&mut after);
            assert_eq!(after, data);
        }
    }

    #[test]
    fn what_says_it_itself_stays() {
        let mut own = lane("10", None, [1, 0, 0], [600.0, 300.0], [600.0, 150.0]);
        own["bytes_per_event"]["events"] = json!(5000);
        let data = scale(&[own]);
        let mut after = data.clone();
        mend(&mut after);
        assert_eq!(after, data);
    }
}
