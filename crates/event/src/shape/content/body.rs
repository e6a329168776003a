//! The kinds of content and their own members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    closed::closed,
    fault::{Fault, read},
    shape::{Json, Media, UpstreamError},
};

/// Gives the tag, the enum and the reader from one list.
macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident($shape:ty) = $name:literal),+ $(,)?) => {
        closed! {
            /// The kind of a message's content.
            ContentKind { $($variant = $name),+ }
        }

        /// A kind of content with its own members.
        #[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "kind")]
        pub enum Body { $($(#[$doc])* #[serde(rename = $name)] $variant($shape)),+ }

        impl Body {
            /// Its kind.
            pub fn kind(&self) -> ContentKind {
                match self { $(Self::$variant(_) => ContentKind::$variant),+ }
            }

            pub(super) fn read(kind: ContentKind, bytes: &[u8]) -> Result<Self, Fault> {
                match kind { $(ContentKind::$variant => read(bytes).map(Self::$variant)),+ }
            }
        }
    };
}

bodies! {
    /// Text.
    Text(Text) = "text",
    /// A picture.
    Image(MediaContent) = "image",
    /// A video.
    Video(MediaContent) = "video",
    /// Sound, or a voice note.
    Audio(MediaContent) = "audio",
    /// A file.
    Document(MediaContent) = "document",
    /// A sticker.
    Sticker(MediaContent) = "sticker",
    /// A place, or a moving one.
    Location(Location) = "location",
    /// Address cards.
    Contacts(Contacts) = "contacts",
    /// A question with options.
    Poll(Poll) = "poll",
    /// Something to choose from.
    Interactive(Interactive) = "interactive",
    /// What somebody chose.
    InteractiveReply(InteractiveReply) = "interactive_reply",
    /// An order from a catalog.
    Order(Order) = "order",
    /// One product of a catalog.
    Product(Product) = "product",
    /// An invitation to an event.
    Event(CalendarEvent) = "event",
    /// An invitation to a group.
    GroupInvite(GroupInvite) = "group_invite",
    /// A notice of the service itself.
    System(System) = "system",
    /// Something that arrived and cannot be shown.
    Unsupported(Unsupported) = "unsupported",
}

/// Text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Text {
    /// The text itself.
    pub body: String,
    /// The link that is shown as a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
    /// Address ids of those mentioned.
    #[serde(default)]
    pub mentions: Vec<String>,
}

/// A file with a caption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaContent {
    /// The file.
    pub media: Media,
    /// The text beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
}

/// A place on Earth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// It is being updated.
    #[serde(default)]
    pub is_live: bool,
    /// Accuracy in metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_m: Option<f64>,
    /// Speed in metres per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mps: Option<f64>,
    /// Direction in degrees, clockwise from north.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heading_deg: Option<f64>,
}

/// Address cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contacts {
    /// One per person.
    #[serde(default)]
    pub contacts: Vec<ContactCard>,
}

/// One person's card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactCard {
    /// The name to show.
    pub display_name: String,
    /// The numbers on it.
    #[serde(default)]
    pub phones: Vec<ContactPhone>,
    /// The whole card as vCard text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcard: Option<String>,
}

/// A number on a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactPhone {
    /// As written on the card.
    pub phone: String,
    /// Its WhatsApp id: digits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wa_id: Option<String>,
}

/// A question with options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Poll {
    /// The question.
    pub name: String,
    /// The options' texts.
    #[serde(default)]
    pub options: Vec<String>,
    /// How many may be selected; 0 means any number.
    pub selectable_count: u32,
}

closed! {
    /// The form in which choices are offered.
    InteractiveKind {
        Buttons = "buttons",
        List = "list",
        Flow = "flow",
        Carousel = "carousel",
        Template = "template",
        /// A button that opens a link.
        Cta = "cta",
    }
}

/// Something to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interactive {
    /// Its form.
    pub sub_kind: InteractiveKind,
    /// Text above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The main text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Text below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// The choices.
    #[serde(default)]
    pub options: Vec<Choice>,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// What a reply will carry.
    pub id: String,
    /// What is shown.
    pub title: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

closed! {
    /// What was answered.
    ReplyKind {
        Button = "button",
        List = "list",
        Flow = "flow",
        TemplateButton = "template_button",
        CallPermission = "call_permission",
    }
}

/// What somebody chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InteractiveReply {
    /// What was answered.
    pub sub_kind: ReplyKind,
    /// The choice's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The choice's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the sender of the button attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// A form's answers, parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_json: Option<Json>,
}

/// An order from a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// The catalog.
    pub catalog_id: String,
    /// What is ordered.
    #[serde(default)]
    pub items: Vec<OrderItem>,
    /// The buyer's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderItem {
    /// The seller's id of the product.
    pub product_id: String,
    /// How many.
    pub quantity: u64,
    /// The price of one, a decimal number as text: `"19.9"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// ISO 4217.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// One product of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Product {
    /// The seller's id of the product.
    pub product_id: String,
    /// The catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A decimal number as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// ISO 4217.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The text sent with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// An invitation to an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalendarEvent {
    /// What it is called.
    pub name: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place>,
}

/// Where an event takes place: any of name, address and coordinates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Degrees, north positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees, east positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
}

/// An invitation to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupInvite {
    /// The id of the group's address.
    pub group: String,
    /// What to join with.
    pub code: String,
    /// When the code stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A notice of the service itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct System {
    /// The upstream's name for it.
    pub sub_kind: String,
    /// The text shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Something that arrived and cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsupported {
    /// The upstream's name for the type.
    pub upstream_type: String,
    /// Why, when the upstream says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the upstream reports with it.
    #[serde(default)]
    pub errors: Vec<UpstreamError>,
}
