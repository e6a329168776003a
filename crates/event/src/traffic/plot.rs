//! What can happen, and how often: decks of cards, dealt and shuffled again.

mod calls;
mod groups;
mod sessions;
mod shop;
mod small;

use super::{random::Random, story::Story};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plot {
    // Long: people and a shop talk, for a minute or more.
    Conversation,
    GroupTalk,
    Order,
    Poll,
    Call,
    Chatbot,
    Campaign,
    // Small: over within seconds.
    Greeting,
    Presence,
    Typing,
    MissedCall,
    Chat,
    Contact,
    Reaction,
    Flag,
    Undecryptable,
    Label,
    GroupChange,
    Members,
    Channel,
    // Rare: about the instance itself, and what hardly ever happens.
    Reconnect,
    Relink,
    Ban,
    Trouble,
    Account,
    Template,
    History,
    GroupLife,
    ChatDeleted,
    Process,
    Unknown,
}

impl Plot {
    /// Tells it, from the story's present on.
    pub(super) fn tell(self, story: &mut Story<'_>, crowd: usize) {
        match self {
            Self::Conversation => shop::conversation(story),
            Self::Order => shop::order(story),
            Self::Chatbot => shop::chatbot(story),
            Self::Campaign => shop::campaign(story, crowd),
            Self::GroupTalk => groups::talk(story),
            Self::Poll => groups::poll(story),
            Self::GroupChange => groups::change(story),
            Self::Members => groups::members(story),
            Self::GroupLife => groups::life(story),
            Self::Channel => groups::channel(story),
            Self::Call => calls::call(story),
            Self::MissedCall => calls::missed(story),
            Self::Greeting => small::greeting(story),
            Self::Presence => small::presence(story),
            Self::Typing => small::typing(story),
            Self::Chat => small::chat(story),
            Self::ChatDeleted => small::chat_deleted(story),
            Self::Contact => small::contact(story),
            Self::Reaction => small::reaction(story),
            Self::Flag => small::flag(story),
            Self::Undecryptable => small::undecryptable(story),
            Self::Label => small::label(story),
            Self::Reconnect => sessions::reconnect(story),
            Self::Relink => sessions::relink(story),
            Self::Ban => sessions::ban(story),
            Self::Trouble => sessions::trouble(story),
            Self::Account => sessions::account(story),
            Self::Template => sessions::template(story),
            Self::History => sessions::history(story),
            Self::Process => sessions::process(story),
            Self::Unknown => sessions::unknown(story),
        }
    }
}

/// The session opens: what every instance begins with.
pub(super) fn opening(story: &mut Story<'_>) {
    sessions::opening(story);
}

/// Cards of one sort, dealt without putting back: everything comes, in some order.
#[derive(Debug)]
struct Deck {
    cards: Vec<Plot>,
    left: Vec<Plot>,
}

impl Deck {
    fn new(cards: &[(Plot, usize)]) -> Self {
        let cards =
            cards.iter().flat_map(|(plot, times)| std::iter::repeat_n(*plot, *times)).collect();
        Self { cards, left: Vec::new() }
    }

    fn deal(&mut self, random: &mut Random) -> Plot {
        if self.left.is_empty() {
            self.left.clone_from(&self.cards);
            random.shuffle(&mut self.left);
        }
        self.left.pop().unwrap_or(Plot::Greeting)
    }
}

/// The three decks.
#[derive(Debug)]
pub(super) struct Decks {
    long: Deck,
    small: Deck,
    rare: Deck,
    dealt: usize,
}

/// One small card in so many is a rare one.
const RARE_EVERY: usize = 25;

impl Decks {
    pub(super) fn new() -> Self {
        use Plot::*;
        Self {
            long: Deck::new(&[
                (Conversation, 14),
                (GroupTalk, 5),
                (Order, 2),
                (Call, 3),
                (Poll, 1),
                (Chatbot, 1),
                (Campaign, 1),
            ]),
            small: Deck::new(&[
                (Greeting, 16),
                (Presence, 10),
                (Typing, 4),
                (Chat, 4),
                (Contact, 4),
                (Reaction, 4),
                (MissedCall, 2),
                (Flag, 2),
                (Undecryptable, 1),
                (Label, 2),
                (GroupChange, 1),
                (Members, 2),
                (Channel, 2),
            ]),
            rare: Deck::new(&[
                (Reconnect, 3),
                (Relink, 1),
                (Ban, 1),
                (Trouble, 1),
                (Account, 1),
                (Template, 1),
                (History, 1),
                (GroupLife, 1),
                (ChatDeleted, 1),
                (Process, 1),
                (Unknown, 1),
            ]),
            dealt: 0,
        }
    }

    pub(super) fn long(&mut self, random: &mut Random) -> Plot {
        self.long.deal(random)
    }

    /// A small card, or now and then a rare one.
    pub(super) fn small(&mut self, random: &mut Random) -> Plot {
        self.dealt += 1;
        match self.dealt % RARE_EVERY {
            0 => self.rare.deal(random),
            _ => self.small.deal(random),
        }
    }
}
