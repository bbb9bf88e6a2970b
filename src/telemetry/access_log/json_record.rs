//! A line of the process log as one JSON object: time, level, target, message, and the fields of the record as keys.

use super::escape;
use super::timestamp::Timestamp;
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use std::time::SystemTime;

/// The keys of every line. A field of such a name gets a `_` before it: a key occurs once in an object.
const OWN: [&str; 4] = ["time", "level", "target", "message"];

/// Appends the record and a line feed.
pub(in crate::telemetry) fn write(line: &mut Vec<u8>, now: SystemTime, record: &log::Record<'_>) {
    let mut stamp = Timestamp::new();
    stamp.update(now);
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(stamp.rfc3339());
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(record.level().as_str().to_ascii_lowercase().as_bytes());
    line.extend_from_slice(b"\",\"target\":");
    text(line, record.target());
    line.extend_from_slice(b",\"message\":");
    text(line, &record.args().to_string());
    // Neither visitor below fails.
    let _ = record.key_values().visit(&mut Fields(line));
    line.extend_from_slice(b"}\n");
}

fn text(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    escape::json(line, text.as_bytes());
    line.push(b'"');
}

struct Fields<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.extend_from_slice(b",\"");
        if OWN.contains(&key.as_str()) {
            self.0.push(b'_');
        }
        escape::json(self.0, key.as_str().as_bytes());
        self.0.extend_from_slice(b"\":");
        value.visit(FieldValue(self.0))
    }
}

/// Numbers and booleans as such, everything else as text.
struct FieldValue<'a>(&'a mut Vec<u8>);

impl<'v> VisitValue<'v> for FieldValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        text(self.0, &value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        escape::decimal(self.0, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        if value < 0 {
            self.0.push(b'-');
        }
        escape::decimal(self.0, value.unsigned_abs());
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // JSON has no infinity and no NaN (RFC 8259 §6).
        if value.is_finite() {
            self.0.extend_from_slice(value.to_string().as_bytes());
            return Ok(());
        }
        text(self.0, &value.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::{Level, Record};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_record_is_one_object_with_its_fields_as_keys() {
        let fields: &[(&str, Value<'_>)] = &[
            ("generation", Value::from(7_u64)),
            ("change", Value::from(-3_i64)),
            ("share", Value::from(1.5_f64)),
            ("nan", Value::from(f64::NAN)),
            ("ok", Value::from(true)),
            ("upstream", Value::from("a \"b\"\n\u{9b}")),
            ("error", Value::from_display(&"refused")),
            ("message", Value::from("its own")),
        ];
        let mut line = Vec::new();
        let record = Record::builder()
            .level(Level::Warn)
            .target("moongate::control")
            .args(format_args!("two\nlines"))
            .key_values(&fields)
            .build();
        write(&mut line, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500), &record);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
        let expected = json!({
            "time": "1970-01-01T00:00:01.500Z", "level": "warn", "target": "moongate::control",
            "message": "two\nlines", "generation": 7, "change": -3, "share": 1.5, "nan": "NaN", "ok": true,
            "upstream": "a \"b\"\n\u{9b}", "error": "refused", "_message": "its own",
        });
        assert_eq!(read, expected);
    }
}
