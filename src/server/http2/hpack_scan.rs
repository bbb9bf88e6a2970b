//! HPACK (RFC 7541), read far enough for the names that count, however the bytes are cut. No dynamic table is kept: its
//! indices count back from the latest insertion, so a bit for each of the latest insertions says enough, and evictions
//! need not be followed.

use super::huffman::Bits;

/// The last index of the static table (RFC 7541, appendix A), and of the pseudo-header fields at its beginning.
const STATIC: usize = 61;
const STATIC_PSEUDO: usize = 14;
/// The indices of `:path`.
const STATIC_PATH: [usize; 2] = [4, 5];

/// Stands in place of a `#` in a `:path`. It may not stand there either, so h2 refuses the request as malformed, and its
/// Huffman code differs from that of `#` in the last bit alone.
const REFUSED: u8 = b'>';

/// What the next byte of a section is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Step {
    /// The first of a field.
    #[default]
    Field,
    /// More of its index.
    Index,
    /// More of a new size of the table.
    Size,
    /// A length, and more of it.
    Length(Part),
    LongLength(Part),
    /// A part of a text.
    Text(Part),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Name,
    Value,
}

/// Which name a field has, as far as it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Name {
    #[default]
    Other,
    Pseudo,
    Path,
}

/// How a field is written (RFC 7541 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Form {
    #[default]
    Indexed,
    Literal,
    /// A literal that goes into the table.
    Inserted,
}

/// The fields of a section, in whatever pieces they come.
#[derive(Debug, Default)]
pub(super) struct Fields {
    step: Step,
    form: Form,
    name: Name,
    /// An integer under way (RFC 7541 §5.1).
    number: usize,
    shift: u32,
    /// Bytes of the text under way that are still to come, and whether they are Huffman codes.
    left: usize,
    bits: Option<Bits>,
    /// Octets of the name under way, and how many of them are those of `:path`.
    octets: usize,
    matched: usize,
    /// Of the latest insertions into the table, the last in the lowest bit: a table of 4 KiB holds no more than 128.
    pub(super) pseudo: u128,
    pub(super) path: u128,
}

impl Fields {
    /// A section begins.
    pub(super) fn begin(&mut self) {
        self.step = Step::Field;
    }

    /// The next bytes of it; a `#` in a `:path` is replaced. Returns whether a pseudo-header field was among these bytes.
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

    /// A byte that is no text's. Returns whether it says that the field is a pseudo-header field.
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

    /// The size of the table is the client's, within ours: what it evicts need not be known.
    fn begin_size(&mut self, byte: u8) -> bool {
        self.step = if self.begin_number(byte, 0x1f, Step::Size) { Step::Field } else { Step::Size };
        false
    }

    /// Returns whether the number is complete; else the next byte is `more`.
    fn begin_number(&mut self, byte: u8, mask: u8, more: Step) -> bool {
        self.number = usize::from(byte & mask);
        self.shift = 0;
        self.step = more;
        byte & mask != mask
    }

    fn more_of_number(&mut self, byte: u8) -> bool {
        // h2 refuses what is longer; here it only must not overflow.
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

    /// The name is known, and its value comes.
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
            // What does not begin with a colon is of no interest from there on.
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

    /// Shows the octets that these bytes stand for, and replaces those for which `refused` says so.
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
                    // The last bit of its code is in this byte, before those that are not read yet.
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
