//! Reads the usual shape of a frame: flat objects of plain strings and small numbers. Any other shape is left to serde; a
//! property test checks that both read the same.

use tidings_core::machine::traffic::record::{self, Record};
use tidings_core::structure::tally::Id;

/// Appends the records of a frame. `None` when it does not have the usual shape; `out` may have grown then.
pub(super) fn frame(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.blanks();
    if cursor.peek()? != b'[' {
        cursor.element(out)?;
        return cursor.end();
    }
    cursor.at += 1;
    cursor.blanks();
    if cursor.peek()? == b']' {
        cursor.at += 1;
        return cursor.end();
    }
    loop {
        cursor.element(out)?;
        match cursor.take()? {
            b',' => cursor.blanks(),
            b']' => return cursor.end(),
            _ => return None,
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The fields of an object that were read so far.
#[derive(Default)]
struct Fields {
    parent: Option<Id>,
    child: Option<Id>,
    source: Option<Id>,
    destination: Option<Id>,
    status: Option<u16>,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    #[inline]
    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Option<()> {
        self.blanks();
        (self.at == self.bytes.len()).then_some(())
    }

    /// Reads an object, and the blanks after it.
    fn element(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut fields = Fields::default();
        self.expect(b'{')?;
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            match key {
                b"parent" => self.id(&mut fields.parent)?,
                b"child" => self.id(&mut fields.child)?,
                b"source" => self.id(&mut fields.source)?,
                b"destination" => self.id(&mut fields.destination)?,
                b"httpStatus" => {
                    // A field that comes twice is left to serde, which rejects it.
                    if fields.status.replace(self.number()?).is_some() {
                        return None;
                    }
                }
                _ => drop(self.string()?),
            }
            self.blanks();
            match self.take()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.blanks();
        match fields {
            Fields {
                parent: Some(parent),
                child: Some(child),
                source: None,
                destination: None,
                ..
            } => {
                record::write(out, Record::Belongs { child: &child, parent: &parent });
            }
            Fields {
                parent: None,
                child: None,
                source: Some(source),
                destination: Some(destination),
                status: Some(status),
            } => {
                let kind = record::kind(status);
                let (source, destination) = (&source, &destination);
                record::write(out, Record::Call { source, destination, kind });
            }
            Fields { .. } => return None,
        }
        Some(())
    }

    /// Reads a string without escapes. The result has no quotes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.bytes.get(self.at..)?;
        let length =
            rest.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20)?;
        self.at += length;
        self.expect(b'"')?;
        rest.get(..length)
    }

    /// Reads a hyphenated UUID, for a field that has not come before.
    #[inline]
    fn id(&mut self, place: &mut Option<Id>) -> Option<()> {
        self.expect(b'"')?;
        let text = self.bytes.get(self.at..)?.first_chunk::<36>()?;
        let id = uuid::Uuid::try_parse_ascii(text).ok()?;
        self.at += 36;
        self.expect(b'"')?;
        place.replace(id.into_bytes()).is_none().then_some(())
    }

    /// Reads a status: at most four digits, no leading zero.
    #[inline]
    fn number(&mut self) -> Option<u16> {
        let (first, mut value) = (self.at, 0);
        while let Some(digit) =
            self.peek().map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9)
        {
            if self.at - first == 4 {
                return None;
            }
            value = value * 10 + u16::from(digit);
            self.at += 1;
        }
        let digits = self.bytes.get(first..self.at)?;
        let plain = matches!(digits, [b'1'..=b'9', ..]) || digits == b"0";
        let ends = matches!(self.peek()?, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
        (plain && ends).then_some(value)
    }
}
