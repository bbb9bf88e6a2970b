//! Tests of field sections, byte by byte.

use super::*;
use crate::server::http2::frame_scan::CONTINUATION;
use proptest::prelude::*;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Frame {
    Frame {
        kind,
        flags: flags | END_HEADERS | END_STREAM,
        length: u32::try_from(length).unwrap_or_default(),
        stream,
        code: 0,
    }
}

/// Returns whether a section of this stream passes, and its resulting bytes.
fn read(sections: &mut FieldSections, stream: u32, block: &[u8]) -> (bool, Vec<u8>) {
    let mut bytes = block.to_vec();
    sections.begin(frame(HEADERS, 0, stream, block.len()));
    let passes = sections.read(&mut bytes).is_ok();
    (passes, bytes)
}

/// A literal field with a literal name.
fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[first, length(name)][..], name, &[length(value)], value].concat()
}

/// `:path` in Huffman code.
const PATH: [u8; 4] = [0xb9, 0x58, 0xd3, 0x3f];

fn huffman(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX) | 0x80;
    [&[first, length(name)][..], name, &[length(value)], value].concat()
}

#[test]
fn a_pseudo_field_in_trailers_is_found_however_it_is_written() {
    let fields: [Vec<u8>; 7] = [
        vec![0x82],
        vec![0x8e],
        vec![0x04, 1, b'/'],
        vec![0x44, 1, b'/'],
        literal(0x00, b":path", b"/"),
        literal(0x10, b":unknown", b""),
        huffman(0x40, &PATH, &[0x63]),
    ];
    for field in fields {
        let ordinary = literal(0, b"x-sum", b":path");
        let mut sections = FieldSections::default();
        assert!(read(&mut sections, 1, &field).0, "a request has them");
        for block in [field.clone(), [ordinary.clone(), field.clone()].concat(), [field, ordinary].concat()] {
            assert!(!read(&mut sections, 1, &block).0, "{block:x?}");
        }
    }
}

#[test]
fn fields_on_a_stream_that_has_ended_are_no_trailers() {
    let request = [0x82];
    for ends in [frame(HEADERS, 0, 1, 1), frame(DATA, 0, 1, 0), frame(RST_STREAM, 0, 1, 4)] {
        let mut sections = FieldSections::default();
        assert!(read(&mut sections, 1, &request).0);
        assert!(!read(&mut sections, 1, &request).0, "trailers");
        sections.on_frame_received(ends);
        assert!(read(&mut sections, 1, &request).0, "h2 refuses them as they are");
    }
    let mut sections = FieldSections::default();
    read(&mut sections, 1, &request);
    sections.on_frame_sent(frame(RST_STREAM, 0, 1, 4));
    assert!(read(&mut sections, 1, &request).0);
}

#[test]
fn the_number_of_tracked_streams_is_bounded() {
    let mut sections = FieldSections::default();
    for stream in 0..10_000 {
        sections.begin(frame(HEADERS, 0, 2 * stream + 1, 0));
    }
    assert_eq!(sections.open.len(), MAX_OPEN);
}

#[test]
fn ordinary_trailers_pass() {
    let fields: [&[u8]; 5] = [
        &literal(0x40, b"x-sum", b":path"),
        &literal(0x00, b"", b":"),
        &literal(0x10, b"path", b"/#"),
        // A table size update, a field of the static table, a name of it.
        &[0x3f, 0xe1, 0x1f, 0x90, 0x0f, 0x01, 1, b'#'],
        &huffman(0x00, &PATH[1..], b"x"),
    ];
    let mut sections = FieldSections::default();
    for field in fields {
        read(&mut sections, 1, &[]);
        assert_eq!(read(&mut sections, 1, field), (true, field.to_vec()));
    }
}

#[test]
fn what_the_table_holds_is_known_by_its_index() {
    let mut sections = FieldSections::default();
    let request =
        [literal(0x40, b":authority", b"a"), literal(0x40, b"x-a", b"b"), huffman(0x40, &PATH, &[0x63])];
    read(&mut sections, 1, &request.concat());
    // 62 is the latest, `:path`; 63 is `x-a`; 64 is `:authority`.
    for (index, passes) in [(62, false), (63, true), (64, false), (65, true)] {
        assert_eq!(read(&mut sections, 1, &[0x80 | index]).0, passes, "{index} as a field");
        assert_eq!(read(&mut sections, 1, &[0x0f, index - 15, 1, b'x']).0, passes, "{index} as a name");
    }
    // One more insertion shifts all indices.
    read(&mut sections, 3, &literal(0x40, b"x-c", b"d"));
    assert!(read(&mut sections, 3, &[0x80 | 62]).0 && !read(&mut sections, 3, &[0x80 | 63]).0);
    // A name of the table, inserted again.
    read(&mut sections, 3, &[0x40 | 63, 2, b'/', b'#']);
    assert!(!read(&mut sections, 3, &[0x80 | 62]).0);
}

#[test]
fn a_fragment_is_made_what_no_path_has() {
    let mut sections = FieldSections::default();
    for (input, output) in [
        (literal(0, b":path", b"/a#b#"), literal(0, b":path", b"/a>b>")),
        (vec![0x04, 2, b'/', b'#'], vec![0x04, 2, b'/', b'>']),
        (vec![0x45, 2, b'/', b'#'], vec![0x45, 2, b'/', b'>']),
        (vec![0x80 | 62, 0x40 | 62, 1, b'#'], vec![0x80 | 62, 0x40 | 62, 1, b'>']),
        // `/#` and `/##` in Huffman code: the last bit of each code of `#`.
        (vec![0x04, 0x83, 0x63, 0xfe, 0xbf], vec![0x04, 0x83, 0x63, 0xfe, 0xff]),
        (huffman(0, &PATH, &[0x63, 0xfe, 0xbf, 0xeb]), huffman(0, &PATH, &[0x63, 0xfe, 0xff, 0xef])),
        // Values of other fields are unchanged.
        (literal(0x40, b":paths", b"/#"), literal(0x40, b":paths", b"/#")),
        (vec![0x01, 1, b'#'], vec![0x01, 1, b'#']),
    ] {
        assert_eq!(read(&mut sections, 1, &input).1, output, "{input:x?}");
    }
}

#[test]
fn padding_and_priority_are_no_fields() {
    let mut sections = FieldSections::default();
    sections.begin(frame(HEADERS, 0, 1, 0));
    let mut payload = [&[3_u8, 0, 0, 0, 0, 16][..], &literal(0, b"x", b"y"), &[0x84, 0x84, 0x84]].concat();
    sections.begin(frame(HEADERS, PADDED | PRIORITY, 1, payload.len()));
    assert_eq!(sections.read(&mut payload), Ok(()));
    let mut payload = [&[1_u8][..], &[0x84], &[0]].concat();
    sections.begin(frame(HEADERS, PADDED, 1, payload.len()));
    assert_eq!(sections.read(&mut payload), Err(PseudoTrailer));
}

proptest! {
    #[test]
    fn a_section_reads_the_same_in_pieces_and_over_frames(cut in 1_usize..20, split in 0_usize..30) {
        let block = [
            literal(0x40, b":path", b"/a#b"), huffman(0x40, &PATH, &[0x63, 0xfe, 0xbf]), vec![0x3f, 0xe1, 0x1f],
            literal(0, b"x", b"#"), vec![0x0f, 47, 1, b'#'],
        ].concat();
        let mut whole = FieldSections::default();
        let expected = read(&mut whole, 1, &block);
        let mut sections = FieldSections::default();
        let mut bytes = block.clone();
        let (first, second) = bytes.split_at_mut(split.min(block.len()));
        for (kind, part) in [(HEADERS, first), (CONTINUATION, second)] {
            sections.begin(frame(kind, 0, 1, part.len()));
            for piece in part.chunks_mut(cut) {
                prop_assert_eq!(sections.read(piece), Ok(()));
            }
        }
        prop_assert_eq!(bytes, expected.1);
        prop_assert_eq!((sections.fields.pseudo, sections.fields.path), (whole.fields.pseudo, whole.fields.path));
    }

    #[test]
    fn no_bytes_panic(frames in proptest::collection::vec((any::<u8>(), 0_u32..4, proptest::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..8)) {
        let mut sections = FieldSections::default();
        for (flags, stream, mut payload, goes_on) in frames {
            let kind = if goes_on { CONTINUATION } else { HEADERS };
            sections.begin(Frame { kind, flags, length: u32::try_from(payload.len()).unwrap_or_default(), stream, code: 0 });
            let _ = sections.read(&mut payload);
        }
    }
}
