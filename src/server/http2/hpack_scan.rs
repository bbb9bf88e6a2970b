//! HPACK scanner (RFC 7541) for the relevant names, in a split byte stream. It keeps no dynamic table: its
//! indices count back from the latest insertion, so one bit per insertion suffices, and evictions need not be
//! tracked.

use super::huffman::Bits;

/// The last index of the static table (RFC 7541, appendix A), and of the pseudo-header fields at its
/// beginning.
const STATIC: usize = 61;
const STATIC_PSEUDO: usize = 14;
/// The indices of `:path`.
const STATIC_PATH: [usize; 2] = [4, 5];

/// Replaces a `#` in `:path`. It is invalid there too, so h2 rejects the request as malformed, and its
/// Huffman code differs from that of `#` in the last bit alone.
const REFUSED: u8 = b'>';

/// The meaning of the next byte of a section.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Step {
    /// The first byte of a field.
    #[default]
    Field,
    /// The continuation of its index.
    Index,
    /// The continuation of a table size update.
    Size,
    /// A length, and its continuation.
    Length(Part),
    LongLength(Part),
    /// A part of a string.
    Text(Part),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Name,
    Value,
}

/// The name of a field, as far as relevant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Name {
    #[default]
    Other,
    Pseudo,
    Path,
}

/// The representation of a field (RFC 7541 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Form {
    #[default]
    Indexed,
    Literal,
    /// A literal that is inserted into the table.
    Inserted,
}

/// The fields of a section in a split byte stream.
#[derive(Debug, Default)]
pub(super) struct Fields {
    step: Step,
    form: Form,
    name: Name,
    /// The current integer (RFC 7541 §5.1).
    number: usize,
    shift: u32,
    /// The remaining bytes of the current string, and whether it is Huffman-coded.
    left: usize,
    bits: Option<Bits>,
    /// The octets of the current name, and how many of them match `:path`.
    octets: usize,
    matched: usize,
    /// One bit per latest insertion into the table, the last in the lowest bit: a table of 4 KiB holds at
    /// most 128.
    pub(super) pseudo: u128,
    pub(super) path: u128,
}

impl Fields {
    /// Starts a section.
    pub(super) fn begin(&mut self) {
        self.step = Step::Field;
    }

    /// Reads bytes; a `#` in `:path` is replaced. Returns whether these bytes contained a pseudo-header
    /// field.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> bool {
        let mut pseudo = false;
        let mut at = 0;
        while at < bytes.len() {
            let Step::Text(part) = self.step else {
                pseudo |= self.byte(bytes[at]);
                at += 1;
                continue;
            };
            let length = self.left.min(bytes.len() - at);
            self.text(part, &mut bytes[at..at + length]);
            self.left -= length;
            at += length;
            if self.left == 0 {
                pseudo |= self.end_text(part);
            }
        }
        pseudo
    }

    /// Reads a byte outside strings. Returns whether it identifies a pseudo-header field.
    fn byte(&mut self, byte: u8) -> bool {
        match self.step {
            Step::Field => {
                let (form, mask) = match byte {
                    0x80.. => (Form::Indexed, 0x7f),
                    0x40.. => (Form::Inserted, 0x3f),
                    0x20.. => return self.begin_size(byte),
                    _ => (Form::Literal, 0x0f),
                };
                self.form = form;
                self.begin_number(byte, mask, Step::Index) && self.end_index()
            }
            Step::Index => self.more_of_number(byte) && self.end_index(),
            Step::Size => {
                if self.more_of_number(byte) {
                    self.step = Step::Field;
                }
                false
            }
            Step::Length(part) => {
                self.bits = (byte & 0x80 != 0).then(Bits::default);
                self.begin_number(byte, 0x7f, Step::LongLength(part)) && self.end_length(part)
            }
            Step::LongLength(part) => self.more_of_number(byte) && self.end_length(part),
            Step::Text(_) => false,
        }
    }

    /// The client chooses the table size within the limit; its evictions are irrelevant here.
    fn begin_size(&mut self, byte: u8) -> bool {
        self.step = if self.begin_number(byte, 0x1f, Step::Size) { Step::Field } else { Step::Size };
        false
    }

    /// Returns whether the integer is complete; otherwise the next byte is `more`.
    fn begin_number(&mut self, byte: u8, mask: u8, more: Step) -> bool {
        self.number = usize::from(byte & mask);
        self.shift = 0;
        self.step = more;
        byte & mask != mask
    }

    fn more_of_number(&mut self, byte: u8) -> bool {
        // h2 rejects longer integers; here they must not overflow.
        self.number = self.number.saturating_add(usize::from(byte & 0x7f) << self.shift.min(28));
        self.shift += 7;
        byte & 0x80 == 0
    }

    fn end_index(&mut self) -> bool {
        self.name = self.named(self.number);
        match (self.form, self.number) {
            (Form::Indexed, _) => self.step = Step::Field,
            (Form::Literal | Form::Inserted, 0) => {
                (self.octets, self.matched) = (0, 0);
                self.step = Step::Length(Part::Name);
            }
            (Form::Literal | Form::Inserted, _) => self.end_name(),
        }
        self.name != Name::Other
    }

    fn named(&self, index: usize) -> Name {
        let bit = |bits: u128| {
            let back = index.checked_sub(STATIC + 1).and_then(|back| u32::try_from(back).ok());
            back.and_then(|back| bits.checked_shr(back)).is_some_and(|bits| bits & 1 == 1)
        };
        match index {
            index if STATIC_PATH.contains(&index) || bit(self.path) => Name::Path,
            1..=STATIC_PSEUDO => Name::Pseudo,
            _ if bit(self.pseudo) => Name::Pseudo,
            _ => Name::Other,
        }
    }

    /// The name is complete, and its value follows.
    fn end_name(&mut self) {
        if self.form == Form::Inserted {
            self.pseudo = self.pseudo << 1 | u128::from(self.name != Name::Other);
            self.path = self.path << 1 | u128::from(self.name == Name::Path);
        }
        self.step = Step::Length(Part::Value);
    }

    fn end_length(&mut self, part: Part) -> bool {
        self.left = self.number;
        self.step = Step::Text(part);
        self.left == 0 && self.end_text(part)
    }

    fn text(&mut self, part: Part, text: &mut [u8]) {
        match (part, self.name) {
            (Part::Value, Name::Path) => self.each_octet(text, |_, octet| octet == b'#'),
            // A name without a leading colon is irrelevant.
            (Part::Name, _) if self.octets == 0 || self.matched > 0 => {
                self.each_octet(text, |fields, octet| {
                    let expected = b":path".get(fields.octets);
                    fields.matched +=
                        usize::from(fields.matched == fields.octets && expected == Some(&octet));
                    fields.octets += 1;
                    false
                });
            }
            _ => {}
        }
    }

    /// Calls `refused` with the decoded octets, and replaces those for which it returns true.
    fn each_octet(&mut self, text: &mut [u8], mut refused: impl FnMut(&mut Self, u8) -> bool) {
        for byte in text {
            let Some(mut bits) = self.bits.take() else {
                if refused(self, *byte) {
                    *byte = REFUSED;
                }
                continue;
            };
            bits.push(*byte);
            while let Some(octet) = bits.next() {
                if refused(self, octet) {
                    // The last bit of its code is in this byte, before the unread ones.
                    *byte ^= 1 << bits.unread();
                }
            }
            self.bits = Some(bits);
        }
    }

    fn end_text(&mut self, part: Part) -> bool {
        match part {
            Part::Value => {
                self.step = Step::Field;
                false
            }
            Part::Name => {
                self.name = match (self.matched, self.octets) {
                    (0, _) => Name::Other,
                    (5, 5) => Name::Path,
                    _ => Name::Pseudo,
                };
                self.end_name();
                self.name != Name::Other
            }
        }
    }
}
