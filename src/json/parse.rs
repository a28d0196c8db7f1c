//! The parser: RFC 8259, less what `jsonb` cannot hold.

use std::{borrow::Cow, fmt};

use super::{Json, number, quoted, value::Value};

/// Parses a document that is about to be written or searched for.
pub(crate) fn checked(text: &str) -> Result<Value<'_>, Refused> {
    Parser { text, at: 0, depth: 0, stored: false, written_out: text.len() }.document()
}

/// Parses a document that came from the server.
///
/// What is nested too deep for us stays text, and so does a text that is no JSON at all, which no `jsonb` column can
/// give: it equals itself and contains nothing.
pub(crate) fn stored(text: &str) -> Value<'_> {
    Parser { text, at: 0, depth: 0, stored: true, written_out: 0 }
        .document()
        .unwrap_or(Value::TooDeep(Cow::Borrowed(text)))
}

/// Why a document was refused, and where.
#[derive(Debug)]
pub(crate) struct Refused {
    what: &'static str,
    at: usize,
    /// From the inside out, as the calls unwind.
    path: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Member(String),
    Element(usize),
}

impl Refused {
    fn within(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON at byte {}, path $", self.at)?;
        for step in self.path.iter().rev() {
            match step {
                Step::Member(key) => write!(f, "[{}]", quoted(key))?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, ": {}", self.what)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    stored: bool,
    /// The length of the text with its numbers written out. A few exponents can stand for gigabytes, which would be
    /// stored, and then no read could ever get past that event.
    written_out: usize,
}

impl<'a> Parser<'a> {
    fn document(mut self) -> Result<Value<'a>, Refused> {
        self.skip_space();
        if self.peek().is_none() {
            return self.refuse("the text is empty; an empty object is {}");
        }
        let value = self.value()?;
        self.skip_space();
        if self.peek().is_some() {
            return self.refuse("there is more text behind the value");
        }
        Ok(value)
    }

    fn value(&mut self) -> Result<Value<'a>, Refused> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.refuse("a value was expected"),
            None => self.refuse("the text ends where a value was expected"),
        }
    }

    fn nested(&mut self, parse: fn(&mut Self) -> Result<Value<'a>, Refused>) -> Result<Value<'a>, Refused> {
        if self.depth == Json::MAX_DEPTH {
            if self.stored {
                return self.skip_container();
            }
            return self.refuse("it is nested deeper than 127 levels");
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let value = parse(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value<'a>, Refused> {
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.refuse("a key in double quotes was expected");
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return self.refuse("a colon was expected behind the key");
            }
            self.skip_space();
            let value = self.value().map_err(|refused| refused.within(Step::Member(key.to_string())))?;
            members.push((key, value));
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::object(members));
            }
            if !self.take(b',') {
                return self.refuse("a comma or the end of the object was expected");
            }
            self.skip_space();
        }
    }

    fn array(&mut self) -> Result<Value<'a>, Refused> {
        let mut elements = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(elements));
        }
        loop {
            let value = self.value().map_err(|refused| refused.within(Step::Element(elements.len())))?;
            elements.push(value);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(elements));
            }
            if !self.take(b',') {
                return self.refuse("a comma or the end of the array was expected");
            }
            self.skip_space();
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Refused> {
        if !self.rest().starts_with(word) {
            return self.refuse("a value was expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, Refused> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if !self.stored {
            self.check_number(number).map_err(|what| Refused { what, at: start, path: Vec::new() })?;
        }
        Ok(Value::Number(number.into()))
    }

    fn check_number(&mut self, number: &str) -> Result<(), &'static str> {
        if let Some(what) = number::refuse(number) {
            return Err(what);
        }
        self.written_out += number::written_out_len(number).saturating_sub(number.len());
        if self.written_out > Json::MAX_LEN {
            return Err(
                "with its numbers written out, as PostgreSQL does, it is longer than the limit of 16777216 bytes",
            );
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refused> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count == 0 { self.refuse("a digit was expected") } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Refused> {
        self.at += 1;
        let mut owned = String::new();
        loop {
            let plain = self.rest();
            let length = plain.bytes().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
            self.at += length;
            let plain = &plain[..length];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(if owned.is_empty() { plain.into() } else { (owned + plain).into() });
                }
                Some(b'\\') => {
                    owned.push_str(plain);
                    owned.push(self.escape()?);
                }
                Some(_) => return self.refuse("a control character in a string must be escaped"),
                None => return self.refuse("the text ends inside a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Refused> {
        let at = self.at;
        self.at += 1;
        let Some(letter) = self.peek() else { return self.refuse("the text ends inside a string") };
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => letter.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(at),
            _ => return Err(Refused { what: "there is no such escape", at, path: Vec::new() }),
        })
    }

    fn unicode(&mut self, at: usize) -> Result<char, Refused> {
        let refused = |what| Err(Refused { what, at, path: Vec::new() });
        let first = self.code_unit()?;
        let units = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            [first, self.code_unit()?]
        } else {
            [first, 0]
        };
        match char::decode_utf16(units).next() {
            Some(Ok('\0')) => refused("PostgreSQL cannot store the escape \\u0000; remove it"),
            Some(Ok(character)) => Ok(character),
            _ => refused("half of a surrogate pair is no character; PostgreSQL cannot store it"),
        }
    }

    fn code_unit(&mut self) -> Result<u16, Refused> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.refuse("four hexadecimal digits were expected"),
        }
    }

    /// Goes over a container without recursion.
    fn skip_container(&mut self) -> Result<Value<'a>, Refused> {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'{' | b'[') => open += 1,
                Some(b'}' | b']') => open -= 1,
                Some(_) => {}
                None => return self.refuse("the text ends inside a container"),
            }
            self.at += 1;
            if open == 0 {
                return Ok(Value::TooDeep(self.text[start..self.at].into()));
            }
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn refuse<T>(&self, what: &'static str) -> Result<T, Refused> {
        Err(Refused { what, at: self.at, path: Vec::new() })
    }
}
