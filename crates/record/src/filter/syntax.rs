//! The text of a condition → its syntax, with PostgreSQL's precedence. What the subset does not have
//! is an error that says what to write instead.

use super::FilterError;
use super::token::{Token, tokens};

/// How deep expressions may nest.
const DEPTH_MAX: usize = 64;
/// Columns, constants and operators of one condition.
const NODES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

/// Types that may stand before a constant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConstantType {
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Uuid,
}

/// An expression as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expression {
    Column(Box<str>),
    Number(Box<str>),
    /// In quotes: of the type of what it is compared with.
    Quoted(Box<str>),
    Typed(ConstantType, Box<str>),
    Boolean(bool),
    Null,
    CollateC(Box<Self>),
    Negate(Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    /// `IS DISTINCT FROM`.
    Distinct(Box<Self>, Box<Self>),
    Between(Box<Self>, Box<Self>, Box<Self>),
    In(Box<Self>, Vec<Self>),
    Like(Box<Self>, Box<str>),
    IsNull(Box<Self>),
    /// `IS TRUE`, `IS FALSE`, `IS UNKNOWN`.
    Is(Option<bool>, Box<Self>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0, nodes: 0 };
    let expression = parser.or()?;
    match parser.tokens.first() {
        None => Ok(expression),
        Some(token) => Err(unexpected(token)),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
    nodes: usize,
}

fn unexpected(token: &Token) -> FilterError {
    let found = match token {
        Token::Comparison(_) => {
            return FilterError::syntax(
                "comparisons after one another have no meaning in SQL; write parentheses",
            );
        }
        Token::Word(word) | Token::Name(word) => word.to_string(),
        Token::Number(text) => text.to_string(),
        Token::Quoted(_) => "a quoted text".to_owned(),
        Token::Sign(sign) => sign.to_string(),
    };
    FilterError::syntax(format!("`{found}` is not expected there, or not part of the subset"))
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn takes(&mut self, token: &Token) -> bool {
        let taken = self.tokens.first() == Some(token);
        if taken {
            self.tokens = &self.tokens[1..];
        }
        taken
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let taken = self.sees_word(0, word);
        if taken {
            self.tokens = &self.tokens[1..];
        }
        taken
    }

    fn sees_word(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(found)) if **found == *word)
    }

    fn expect(&mut self, sign: char) -> Result<(), FilterError> {
        if self.takes(&Token::Sign(sign)) {
            return Ok(());
        }
        Err(match self.tokens.first() {
            Some(token) => unexpected(token),
            None => FilterError::syntax(format!("`{sign}` is missing at the end")),
        })
    }

    fn expect_word(&mut self, word: &str) -> Result<(), FilterError> {
        if self.takes_word(word) {
            return Ok(());
        }
        Err(FilterError::syntax(format!("`{}` is missing", word.to_uppercase())))
    }

    fn count(&mut self) -> Result<(), FilterError> {
        self.nodes += 1;
        if NODES_MAX < self.nodes {
            return Err(FilterError::syntax(format!("it has more than {NODES_MAX} parts")));
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(FilterError::syntax(format!("it nests deeper than {DEPTH_MAX}")));
        }
        let mut all = vec![self.and()?];
        while self.takes_word("or") {
            all.push(self.and()?);
        }
        self.depth -= 1;
        Ok(alone(all, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, FilterError> {
        let mut all = vec![self.not()?];
        while self.takes_word("and") {
            all.push(self.not()?);
        }
        Ok(alone(all, Expression::And))
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        let mut negations = 0;
        while self.takes_word("not") {
            self.count()?;
            negations += 1;
        }
        let expression = self.is()?;
        Ok((0..negations).fold(expression, |inner, _| Expression::Not(inner.into())))
    }

    fn is(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.comparison()?;
        while self.takes_word("is") {
            self.count()?;
            let negated = self.takes_word("not");
            let boxed = Box::new(left);
            let test = match self.next() {
                Some(Token::Word(word)) => match &*word {
                    "null" => Expression::IsNull(boxed),
                    "true" => Expression::Is(Some(true), boxed),
                    "false" => Expression::Is(Some(false), boxed),
                    "unknown" => Expression::Is(None, boxed),
                    "distinct" => {
                        self.expect_word("from")?;
                        Expression::Distinct(boxed, self.comparison()?.into())
                    }
                    _ => return Err(unexpected(&Token::Word(word))),
                },
                Some(token) => return Err(unexpected(&token)),
                None => return Err(FilterError::syntax("something is missing after IS")),
            };
            left = if negated { Expression::Not(test.into()) } else { test };
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        let left = self.range()?;
        let Some(&Token::Comparison(operator)) = self.tokens.first() else { return Ok(left) };
        self.next();
        self.count()?;
        let right = self.range()?;
        match self.tokens.first() {
            Some(token @ Token::Comparison(_)) => Err(unexpected(token)),
            _ => Ok(Expression::Compare(operator, left.into(), right.into())),
        }
    }

    /// BETWEEN, IN and LIKE.
    fn range(&mut self) -> Result<Expression, FilterError> {
        let left = self.sum()?;
        let at = usize::from(self.sees_word(0, "not"));
        let follows = ["between", "in", "like"].iter().any(|word| self.sees_word(at, word));
        if !follows {
            return Ok(left);
        }
        self.count()?;
        let negated = self.takes_word("not");
        let test = if self.takes_word("between") {
            let low = self.sum()?;
            self.expect_word("and")?;
            Expression::Between(left.into(), low.into(), self.sum()?.into())
        } else if self.takes_word("in") {
            Expression::In(left.into(), self.list()?)
        } else {
            self.expect_word("like")?;
            match self.next() {
                Some(Token::Quoted(pattern)) => Expression::Like(left.into(), pattern),
                _ => return Err(FilterError::syntax("LIKE needs a pattern in quotes")),
            }
        };
        Ok(if negated { Expression::Not(test.into()) } else { test })
    }

    fn list(&mut self) -> Result<Vec<Expression>, FilterError> {
        self.expect('(')?;
        let mut list = vec![self.sum()?];
        while self.takes(&Token::Sign(',')) {
            list.push(self.sum()?);
        }
        self.expect(')')?;
        Ok(list)
    }

    fn sum(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.product()?;
        loop {
            let operator = match self.tokens.first() {
                Some(Token::Sign('+')) => Arithmetic::Add,
                Some(Token::Sign('-')) => Arithmetic::Subtract,
                _ => return Ok(left),
            };
            self.next();
            self.count()?;
            left = Expression::Arithmetic(operator, left.into(), self.product()?.into());
        }
    }

    fn product(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.unary()?;
        while self.takes(&Token::Sign('*')) {
            self.count()?;
            let right = self.unary()?.into();
            left = Expression::Arithmetic(Arithmetic::Multiply, left.into(), right);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, FilterError> {
        let mut negations = 0;
        loop {
            if self.takes(&Token::Sign('-')) {
                self.count()?;
                negations += 1;
            } else if !self.takes(&Token::Sign('+')) {
                break;
            }
        }
        let expression = self.collated()?;
        Ok((0..negations).fold(expression, |inner, _| Expression::Negate(inner.into())))
    }

    fn collated(&mut self) -> Result<Expression, FilterError> {
        let primary = self.primary()?;
        if !self.takes_word("collate") {
            return Ok(primary);
        }
        match self.next() {
            Some(Token::Name(name)) if *name == *"C" => Ok(Expression::CollateC(primary.into())),
            _ => Err(FilterError::syntax("the only collation of the subset is COLLATE \"C\"")),
        }
    }

    fn primary(&mut self) -> Result<Expression, FilterError> {
        self.count()?;
        match self.next() {
            Some(Token::Sign('(')) => {
                let inner = self.or()?;
                self.expect(')')?;
                Ok(inner)
            }
            Some(Token::Number(text)) => Ok(Expression::Number(text)),
            Some(Token::Quoted(text)) => Ok(Expression::Quoted(text)),
            Some(Token::Name(name)) => self.column(name),
            Some(Token::Word(word)) => self.word(word),
            Some(token) => Err(unexpected(&token)),
            None => Err(FilterError::syntax("something is missing at the end")),
        }
    }

    fn word(&mut self, word: Box<str>) -> Result<Expression, FilterError> {
        match &*word {
            "true" => return Ok(Expression::Boolean(true)),
            "false" => return Ok(Expression::Boolean(false)),
            "null" => return Ok(Expression::Null),
            _ => {}
        }
        if let Some(Token::Quoted(text)) = self.tokens.first() {
            let type_ = match &*word {
                "date" => ConstantType::Date,
                "timestamp" => ConstantType::Timestamp,
                "timestamptz" => ConstantType::Timestamptz,
                "time" => ConstantType::Time,
                "uuid" => ConstantType::Uuid,
                _ => {
                    return Err(FilterError::syntax(format!(
                        "`{word} '…'` is not part of the subset; constants are '…', or DATE, \
                         TIMESTAMP, TIMESTAMPTZ, TIME or UUID '…'"
                    )));
                }
            };
            let text = text.clone();
            self.next();
            return Ok(Expression::Typed(type_, text));
        }
        if crate::identifier::is_word(&word) {
            let text = format!(
                "`{word}` is a word of SQL and not expected there; a column of that name is \
                 written \"{word}\""
            );
            return Err(FilterError::syntax(text));
        }
        self.column(word)
    }

    fn column(&self, name: Box<str>) -> Result<Expression, FilterError> {
        match self.tokens.first() {
            Some(Token::Sign('.')) => {
                Err(FilterError::syntax(format!("write `{name}.…` without the name of its table")))
            }
            Some(Token::Sign('(')) => Err(FilterError::syntax(format!(
                "`{name}(…)`: functions are not part of the subset"
            ))),
            _ => Ok(Expression::Column(name)),
        }
    }
}

fn alone(mut all: Vec<Expression>, join: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    if all.len() == 1 { all.swap_remove(0) } else { join(all) }
}
