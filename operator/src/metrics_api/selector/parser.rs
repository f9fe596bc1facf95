//! The recursive-descent parser, with the oddities of the original: `in` and `notin` may be keys, `(,)` is a set with the
//! empty value, `key=` compares with the empty value, a trailing comma is refused.

use std::{collections::BTreeSet, iter::Peekable, str::CharIndices};

use super::{
    SelectorError,
    requirement::{Operator, Requirement, validate_key},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    Open,
    Close,
    Comma,
    End,
}

impl Token<'_> {
    fn shown(self) -> String {
        match self {
            Token::Word(word) => word.to_owned(),
            Token::Not => "!".to_owned(),
            Token::Equals => "=".to_owned(),
            Token::DoubleEquals => "==".to_owned(),
            Token::NotEquals => "!=".to_owned(),
            Token::GreaterThan => ">".to_owned(),
            Token::LessThan => "<".to_owned(),
            Token::Open => "(".to_owned(),
            Token::Close => ")".to_owned(),
            Token::Comma => ",".to_owned(),
            Token::End => String::new(),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    characters: Peekable<CharIndices<'a>>,
    ahead: Option<Token<'a>>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        text,
        characters: text.char_indices().peekable(),
        ahead: None,
    };
    let mut requirements = Vec::new();
    if parser.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(parser.requirement()?);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Comma => {}
            other => return Err(unexpected(other, "',' or end of selector")),
        }
        match parser.peek() {
            Token::Word(_) | Token::Not => {}
            other => return Err(unexpected(other, "a label after ','")),
        }
    }
}

fn unexpected(token: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected {expected}", token.shown()))
}

impl<'a> Parser<'a> {
    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key.to_owned(),
            other => return Err(unexpected(other, "a label key")),
        };
        validate_key(&key)?;
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let (operator, values) = match self.next() {
            Token::Equals | Token::DoubleEquals => (Operator::In, self.value()?),
            Token::NotEquals => (Operator::NotIn, self.value()?),
            Token::GreaterThan => (Operator::GreaterThan, self.value()?),
            Token::LessThan => (Operator::LessThan, self.value()?),
            Token::Word("in") => (Operator::In, self.set()?),
            Token::Word("notin") => (Operator::NotIn, self.set()?),
            other => return Err(unexpected(other, "one of: = == != in notin > <")),
        };
        Requirement::new(key, operator, values)
    }

    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let value = match self.peek() {
            Token::End | Token::Comma => String::new(),
            Token::Word(word) => {
                self.next();
                word.to_owned()
            }
            other => return Err(unexpected(other, "a value")),
        };
        Ok(BTreeSet::from([value]))
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            Token::Open => {}
            other => return Err(unexpected(other, "'('")),
        }
        let mut values = BTreeSet::new();
        if self.peek() == Token::Close {
            self.next();
            return Ok(values);
        }
        // Between two separators stands a word, or nothing: the empty value.
        loop {
            match self.peek() {
                Token::Word(word) => {
                    self.next();
                    values.insert(word.to_owned());
                }
                Token::Comma | Token::Close => {
                    values.insert(String::new());
                }
                other => return Err(unexpected(other, "',', ')' or a value")),
            }
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(values),
                other => return Err(unexpected(other, "',' or ')'")),
            }
        }
    }

    fn peek(&mut self) -> Token<'a> {
        match self.ahead {
            Some(token) => token,
            None => {
                let token = self.scan();
                self.ahead = Some(token);
                token
            }
        }
    }

    fn next(&mut self) -> Token<'a> {
        match self.ahead.take() {
            Some(token) => token,
            None => self.scan(),
        }
    }

    fn scan(&mut self) -> Token<'a> {
        while self.characters.next_if(|(_, character)| is_space(*character)).is_some() {}
        let Some((start, character)) = self.characters.next() else {
            return Token::End;
        };
        match character {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '>' => Token::GreaterThan,
            '<' => Token::LessThan,
            '!' if self.takes('=') => Token::NotEquals,
            '!' => Token::Not,
            '=' if self.takes('=') => Token::DoubleEquals,
            '=' => Token::Equals,
            _ => {
                let mut end = start + character.len_utf8();
                while let Some((at, next)) = self
                    .characters
                    .next_if(|(_, next)| !is_space(*next) && !is_special(*next))
                {
                    end = at + next.len_utf8();
                }
                Token::Word(&self.text[start..end])
            }
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.characters.next_if(|(_, character)| *character == wanted).is_some()
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_special(character: char) -> bool {
    matches!(character, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}
