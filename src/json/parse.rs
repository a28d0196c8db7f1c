//! The parser: RFC 8259, without what `jsonb` cannot hold.

use std::{borrow::Cow, fmt};

use super::{
    Json, number, quoted,
    reading::{Reading, Tree, Walk, Walking},
    value::Value,
};

/// Parses a document that is about to be searched for.
pub(crate) fn checked(text: &str) -> Result<Value<'_>, Refused> {
    Parser::new(text, Tree).refusing().document(())
}

/// Validates a document that is about to be written, and builds nothing.
pub(super) fn check(text: &str) -> Result<(), Refused> {
    struct Nowhere;

    impl Walk<'_> for Nowhere {
        type Path = ();

        fn member(&self, (): (), _: &str) {}

        fn element(&self, (): ()) {}

        fn scalar(&mut self, (): (), _: Value<'_>) {}
    }

    Parser::new(text, Walking(Nowhere)).refusing().document(())
}

/// Parses a document that came from the server.
///
/// A value that is nested too deep for us stays text, and so does a text that is not JSON at all, which no `jsonb`
/// column can return: it equals itself and contains nothing.
pub(crate) fn stored(text: &str) -> Value<'_> {
    Parser::new(text, Tree).document(()).unwrap_or(Value::TooDeep(Cow::Borrowed(text)))
}

/// Walks a document, which begins at this place, without building a tree. Of a repeated key, it visits every member.
///
/// A value that is nested too deep is visited as one value. Of a text that is not JSON, everything before the error is
/// visited.
pub(super) fn walk<'a, W: Walk<'a>>(text: &'a str, document: W::Path, walk: W) {
    let _ = Parser::new(text, Walking(walk)).document(document);
}

/// Why a document was rejected, and where.
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

struct Parser<'a, R> {
    text: &'a str,
    at: usize,
    depth: usize,
    stored: bool,
    /// The length of the text with its numbers written out. A few exponents can stand for gigabytes, which would be
    /// stored, and then no read could ever get past that event.
    written_out: usize,
    reading: R,
}

impl<'a, R: Reading<'a>> Parser<'a, R> {
    /// For a document that came from the server.
    fn new(text: &'a str, reading: R) -> Self {
        Self { text, at: 0, depth: 0, stored: true, written_out: 0, reading }
    }

    /// For a document that did not, and is rejected if the server would reject it.
    fn refusing(self) -> Self {
        Self { stored: false, written_out: self.text.len(), ..self }
    }

    fn document(mut self, place: R::Path) -> Result<R::Read, Refused> {
        self.skip_space();
        if self.peek().is_none() {
            return self.refuse("the text is empty; an empty object is {}");
        }
        let read = self.value(place)?;
        self.skip_space();
        if self.peek().is_some() {
            return self.refuse("there is more text after the value");
        }
        Ok(read)
    }

    fn value(&mut self, place: R::Path) -> Result<R::Read, Refused> {
        let scalar = match self.peek() {
            Some(b'{') => return self.nested(place, Self::object),
            Some(b'[') => return self.nested(place, Self::array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.refuse("a value was expected"),
            None => self.refuse("the text ends where a value was expected"),
        };
        Ok(self.reading.scalar(place, scalar?))
    }

    fn nested(
        &mut self,
        place: R::Path,
        parse: fn(&mut Self, R::Path) -> Result<R::Read, Refused>,
    ) -> Result<R::Read, Refused> {
        if self.depth == Json::MAX_DEPTH {
            if self.stored {
                let too_deep = self.skip_container()?;
                return Ok(self.reading.scalar(place, too_deep));
            }
            return self.refuse("it is nested deeper than 127 levels");
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let read = parse(self, place)?;
        self.depth -= 1;
        Ok(read)
    }

    fn object(&mut self, place: R::Path) -> Result<R::Read, Refused> {
        let mut members = R::Members::default();
        if self.take(b'}') {
            return Ok(R::object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.refuse("a key in double quotes was expected");
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return self.refuse("a colon was expected after the key");
            }
            self.skip_space();
            let member = self.reading.member(place, &key);
            let value = self.value(member).map_err(|refused| refused.within(Step::Member(key.to_string())))?;
            R::add_member(&mut members, key, value);
            self.skip_space();
            if self.take(b'}') {
                return Ok(R::object(members));
            }
            if !self.take(b',') {
                return self.refuse("a comma or the end of the object was expected");
            }
            self.skip_space();
        }
    }

    fn array(&mut self, place: R::Path) -> Result<R::Read, Refused> {
        let mut elements = R::Elements::default();
        if self.take(b']') {
            return Ok(R::array(elements));
        }
        for index in 0.. {
            let element = self.reading.element(place);
            let value = self.value(element).map_err(|refused| refused.within(Step::Element(index)))?;
            R::add_element(&mut elements, value);
            self.skip_space();
            if self.take(b']') {
                break;
            }
            if !self.take(b',') {
                return self.refuse("a comma or the end of the array was expected");
            }
            self.skip_space();
        }
        Ok(R::array(elements))
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
        if number::is_plain(number) {
            return Ok(());
        }
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
            let rest = self.rest();
            let special = memchr::memchr2(b'"', b'\\', rest.as_bytes()).unwrap_or(rest.len());
            let plain = &rest[..special];
            if let Some(control) = plain.bytes().position(|byte| byte < b' ') {
                self.at += control;
                return self.refuse("a control character in a string must be escaped");
            }
            self.at += special;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(if owned.is_empty() { plain.into() } else { (owned + plain).into() });
                }
                Some(_) => {
                    owned.push_str(plain);
                    owned.push(self.escape()?);
                }
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

    /// Skips a container without recursion.
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
