//! What a user's SQL does to the transaction of its session. The server reports with each answer whether one is open,
//! but the driver does not pass that on.

use crossbeam_utils::atomic::AtomicCell;

/// The effect of a transaction control statement, if it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum TransactionControl {
    /// `BEGIN`, `START TRANSACTION`.
    Opens,
    /// `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `PREPARE TRANSACTION`.
    Ends,
    /// The same with `AND CHAIN`, or followed by a statement that opens one: another transaction is then open.
    Chains,
    /// `ROLLBACK TO` a savepoint: the transaction stays open, and is no longer failed.
    GoesBack,
}

/// Whether a transaction is open in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum TransactionState {
    Outside,
    Inside,
    /// A statement that opens or ends one is in progress, or was cancelled, or has failed, by itself or because of
    /// another one.
    Unclear,
}

/// The same for a connection in use.
#[derive(Debug)]
pub(in crate::router) struct TransactionTracker(AtomicCell<TransactionState>);

impl TransactionTracker {
    pub(in crate::router) const fn outside() -> Self {
        Self(AtomicCell::new(TransactionState::Outside))
    }

    pub(in crate::router) fn get(&self) -> TransactionState {
        self.0.load()
    }

    pub(in crate::router) fn set(&self, state: TransactionState) {
        self.0.store(state);
    }

    /// A call that contains this is about to be sent.
    pub(in crate::router) fn sends(&self, control: Option<TransactionControl>) {
        if control.is_some() {
            self.set(TransactionState::Unclear);
        }
    }

    /// The call is over.
    pub(in crate::router) fn call_ended(&self, control: Option<TransactionControl>, is_ok: bool) {
        match control {
            None => {}
            Some(TransactionControl::Opens | TransactionControl::Chains) if is_ok => self.set(TransactionState::Inside),
            Some(TransactionControl::Ends) if is_ok => self.set(TransactionState::Outside),
            Some(_) => self.set(TransactionState::Unclear),
        }
    }
}

/// The combined effect of the statements of `sql`: the last one that opens or ends a transaction decides.
pub(in crate::router) fn of(sql: &str) -> Option<TransactionControl> {
    let mut last = None;
    each(sql, |control| {
        last = match (last, control) {
            (_, TransactionControl::GoesBack) => last,
            // Something was committed before, as by a chain.
            (Some(TransactionControl::Ends | TransactionControl::Chains), TransactionControl::Opens) => {
                Some(TransactionControl::Chains)
            }
            _ => Some(control),
        };
    });
    last
}

/// Whether one of the statements of `sql` ends the transaction, as far as that can be determined.
pub(in crate::router) fn ends(sql: &str) -> bool {
    let mut ends = false;
    each(sql, |control| ends |= matches!(control, TransactionControl::Ends | TransactionControl::Chains));
    ends
}

/// With `off`, a commit is acknowledged before it is on disk. The flushed LSN, which is what the place requested after
/// a commit is, is then before that commit; unless `off` still holds after the commit, which it does not with
/// `SET LOCAL`.
pub(in crate::router) const ASYNCHRONOUS: &str = "synchronous_commit";

/// Whether it contains this word, in upper or lower case.
pub(in crate::router) fn mentions(sql: &str, word: &str) -> bool {
    sql.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether it is a `COPY … FROM STDIN`.
pub(in crate::router) fn copies_in(sql: &str) -> bool {
    let mut tokens = Tokens { sql: sql.as_bytes(), at: 0 };
    if !tokens.next().and_then(Token::word).is_some_and(|word| is(word, "COPY")) {
        return false;
    }
    let mut before = tokens.next().and_then(Token::word);
    // A query copies nothing in, whatever its tables are called.
    if sql[..tokens.at].ends_with('(') {
        return false;
    }
    tokens.map(Token::word).any(|word| {
        let both = (before, word);
        before = word;
        matches!(both, (Some(from), Some(stdin)) if is(from, "FROM") && is(stdin, "STDIN"))
    })
}

/// Whether one of the statements rolls back to a savepoint.
pub(in crate::router) fn goes_back(sql: &str) -> bool {
    let mut goes_back = false;
    each(sql, |control| goes_back |= control == TransactionControl::GoesBack);
    goes_back
}

fn each(sql: &str, mut told: impl FnMut(TransactionControl)) {
    let mut tokens = Tokens { sql: sql.as_bytes(), at: 0 };
    // The first words of the current statement, as long as nothing else is between them.
    let (mut words, mut count, mut is_head) = ([&b""[..]; WORDS], 0, true);
    // Most SQL is one statement, whose rest does not matter.
    if memchr::memchr(b';', sql.as_bytes()).is_none() {
        for (word, place) in tokens.map_while(Token::word).zip(&mut words) {
            *place = word;
            count += 1;
        }
        if let Some(control) = classify(&words[..count]) {
            told(control);
        }
        return;
    }
    // The body of a function, BEGIN ATOMIC … END, has its own semicolons and its own END.
    let (mut in_body, mut before) = (false, None);
    loop {
        let token = tokens.next();
        match token {
            Some(Token::Word(word)) => {
                if is(word, "ATOMIC") && before.is_some_and(|before| is(before, "BEGIN")) {
                    (in_body, count, is_head) = (true, 0, true);
                } else if is_head && count < WORDS {
                    words[count] = word;
                    count += 1;
                }
            }
            Some(Token::Other) => is_head = false,
            Some(Token::Semicolon) | None => {
                let words = &words[..count];
                if in_body {
                    in_body = !words.first().is_some_and(|word| is(word, "END"));
                } else if let Some(control) = classify(words) {
                    told(control);
                }
                (count, is_head) = (0, true);
            }
        }
        match token {
            Some(token) => before = token.word(),
            None => return,
        }
    }
}

/// `ROLLBACK TRANSACTION AND NO CHAIN` is the longest significant beginning.
const WORDS: usize = 5;

/// The effect of a statement that begins with these words.
fn classify(words: &[&[u8]]) -> Option<TransactionControl> {
    let (first, second) = (*words.first()?, words.get(1).copied().unwrap_or_default());
    let mut pairs = words.windows(2);
    let ended = |is_chained: bool| Some(if is_chained { TransactionControl::Chains } else { TransactionControl::Ends });
    match () {
        () if is(first, "BEGIN") || is(first, "START") && is(second, "TRANSACTION") => Some(TransactionControl::Opens),
        () if is(first, "PREPARE") && is(second, "TRANSACTION") => Some(TransactionControl::Ends),
        () if is(second, "PREPARED") => None,
        () if is(first, "COMMIT") || is(first, "END") || is(first, "ABORT") || is(first, "ROLLBACK") => {
            // To a savepoint: ROLLBACK [WORK | TRANSACTION] TO [SAVEPOINT] name.
            if words.iter().take(3).any(|word| is(word, "TO")) {
                return Some(TransactionControl::GoesBack);
            }
            ended(pairs.any(|pair| is(pair[0], "AND") && is(pair[1], "CHAIN")))
        }
        () => None,
    }
}

fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key word, or a name without quotation marks.
    Word(&'a [u8]),
    Semicolon,
    /// A string, a quoted name, a number, a sign.
    Other,
}

impl<'a> Token<'a> {
    fn word(self) -> Option<&'a [u8]> {
        match self {
            Self::Word(word) => Some(word),
            Self::Semicolon | Self::Other => None,
        }
    }
}

/// SQL by its lexical rules, with `standard_conforming_strings`, the default of every server for twenty years.
struct Tokens<'a> {
    sql: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let (first, second) = (*rest.first()?, rest.get(1).copied());
            match first {
                _ if first.is_ascii_whitespace() || first == b'\x0b' => self.at += 1,
                b'-' if second == Some(b'-') => {
                    self.at += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
                }
                b'/' if second == Some(b'*') => self.skip_comment(),
                b';' => {
                    self.at += 1;
                    return Some(Token::Semicolon);
                }
                b'\'' | b'"' => {
                    self.skip_quoted(first, false);
                    return Some(Token::Other);
                }
                b'$' => {
                    self.skip_dollars();
                    return Some(Token::Other);
                }
                _ if begins_word(first) => {
                    let word = self.word();
                    // E'it\'s': a backslash escapes the next character.
                    if self.rest().first() == Some(&b'\'') && is(word, "E") {
                        self.skip_quoted(b'\'', true);
                        return Some(Token::Other);
                    }
                    return Some(Token::Word(word));
                }
                // What follows a digit is part of the number, not a word.
                _ if first.is_ascii_digit() => {
                    self.word();
                    return Some(Token::Other);
                }
                _ => {
                    self.at += 1;
                    return Some(Token::Other);
                }
            }
        }
    }
}

impl<'a> Tokens<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.sql[self.at..]
    }

    fn word(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let goes_on = |byte: &u8| begins_word(*byte) || byte.is_ascii_digit() || *byte == b'$';
        let len = rest.iter().position(|byte| !goes_on(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// A doubled quotation mark ends one string and begins the next, which has the same result.
    fn skip_quoted(&mut self, quote: u8, has_backslashes: bool) {
        self.at += 1;
        while let Some(byte) = self.sql.get(self.at) {
            self.at += 1;
            match *byte {
                b'\\' if has_backslashes => self.at += 1,
                // The second part of a string with backslashes has no E of its own.
                byte if byte == quote && has_backslashes && self.sql.get(self.at) == Some(&quote) => self.at += 1,
                byte if byte == quote => break,
                _ => {}
            }
        }
        self.at = self.at.min(self.sql.len());
    }

    /// Comments may be nested.
    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.sql.len() {
            match self.rest() {
                [b'/', b'*', ..] => (depth, self.at) = (depth + 1, self.at + 2),
                [b'*', b'/', ..] => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// `$$text$$`, `$tag$text$tag$`, or the number of a parameter.
    fn skip_dollars(&mut self) {
        let rest = self.rest();
        let tag = rest[1..].iter().position(|byte| !begins_word(*byte) && !byte.is_ascii_digit());
        let mark = match tag {
            Some(len) if rest[1 + len] == b'$' && !rest[1].is_ascii_digit() => &rest[..len + 2],
            _ => {
                self.at += 1;
                return;
            }
        };
        let end = memchr::memmem::find(&rest[mark.len()..], mark);
        self.at += end.map_or(rest.len(), |end| end + 2 * mark.len());
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests;
