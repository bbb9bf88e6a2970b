//! JSON format: one object per line. Fields without a value are left out.

use super::entry::{Entry, Note};
use super::escape;
use super::field::{Field, FieldValue};
use super::timestamp::Timestamp;

/// Appends an object of these fields, in this order, and a line feed. `line` is empty.
pub(super) fn write(line: &mut Vec<u8>, stamp: &Timestamp, fields: &[Field], entry: &Entry<'_>) {
    for field in fields {
        match field.value(entry) {
            FieldValue::Absent => {}
            FieldValue::Time => {
                key(line, *field);
                line.push(b'"');
                line.extend_from_slice(stamp.rfc3339());
                line.push(b'"');
            }
            FieldValue::Text(text) => {
                key(line, *field);
                line.push(b'"');
                escape::json(line, text);
                line.push(b'"');
            }
            FieldValue::Address(address) => {
                key(line, *field);
                line.push(b'"');
                escape::address(line, address);
                line.push(b'"');
            }
            FieldValue::Number(number) => {
                key(line, *field);
                escape::decimal(line, number);
            }
            FieldValue::Milliseconds(time) => {
                key(line, *field);
                escape::milliseconds(line, time);
            }
            FieldValue::Trace(trace) => {
                key(line, *field);
                line.push(b'"');
                line.extend_from_slice(&trace.digits());
                line.push(b'"');
            }
            FieldValue::Notes(notes) => {
                key(line, *field);
                plugins(line, notes);
            }
        }
    }
    // The comma of the first key.
    match line.first_mut() {
        Some(first) => *first = b'{',
        None => line.push(b'{'),
    }
    line.extend_from_slice(b"}\n");
}

/// Begins a member, with the comma before it.
fn key(line: &mut Vec<u8>, field: Field) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(field.name().as_bytes());
    line.extend_from_slice(b"\":");
}

/// An object with one object of notes per plugin.
fn plugins(line: &mut Vec<u8>, notes: &[Note<'_>]) {
    line.push(b'{');
    for (index, of_one) in notes.chunk_by(|a, b| a.plugin == b.plugin).enumerate() {
        let begin: &[u8] = if index == 0 { b"\"" } else { b"},\"" };
        line.extend_from_slice(begin);
        escape::json(line, of_one[0].plugin.as_bytes());
        line.extend_from_slice(b"\":{");
        for (index, note) in of_one.iter().enumerate() {
            let begin: &[u8] = if index == 0 { b"\"" } else { b",\"" };
            line.extend_from_slice(begin);
            escape::json(line, note.key.as_bytes());
            line.extend_from_slice(b"\":\"");
            escape::json(line, note.value.as_bytes());
            line.push(b'"');
        }
    }
    line.extend_from_slice(b"}}");
}
