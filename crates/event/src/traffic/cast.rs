//! Who takes part: our numbers, people, groups, a channel. All of them are invented.

use super::random::Random;
use crate::shape::Address;

const FIRST: [&str; 40] = [
    "Ana",
    "Beatriz",
    "Bruno",
    "Caio",
    "Camila",
    "Carla",
    "Daniel",
    "Diego",
    "Eduarda",
    "Elisa",
    "Fábio",
    "Felipe",
    "Gabriela",
    "Helena",
    "Hugo",
    "Igor",
    "Isabel",
    "João",
    "Júlia",
    "Karina",
    "Larissa",
    "Leonardo",
    "Lívia",
    "Lucas",
    "Luiza",
    "Marcos",
    "Mariana",
    "Mateus",
    "Natália",
    "Otávio",
    "Paula",
    "Pedro",
    "Rafael",
    "Renata",
    "Sofia",
    "Thiago",
    "Valentina",
    "Vera",
    "Vinícius",
    "Yasmin",
];

const LAST: [&str; 24] = [
    "Almeida", "Araújo", "Barbosa", "Cardoso", "Carvalho", "Castro", "Correia", "Costa", "Dias",
    "Duarte", "Ferreira", "Freitas", "Gomes", "Lima", "Lopes", "Melo", "Moreira", "Nunes",
    "Pereira", "Ribeiro", "Rocha", "Santos", "Silva", "Teixeira",
];

const GROUPS: [&str; 12] = [
    "Clientes VIP",
    "Condomínio Aurora",
    "Equipe de vendas",
    "Entregas do dia",
    "Família",
    "Futebol de quinta",
    "Logística",
    "Obra da loja nova",
    "Pais da escola",
    "Plantão",
    "Promoções da semana",
    "Suporte interno",
];

const SHOPS: [&str; 6] = [
    "Loja Exemplo",
    "Padaria Modelo",
    "Oficina Central",
    "Clínica Vida",
    "Auto Peças Sul",
    "Pet Amigo",
];

/// Area codes; with the unused subscriber range 99999-xxxx they give numbers nobody has.
const AREAS: [u32; 8] = [11, 21, 31, 41, 51, 61, 71, 81];

/// People that one area can hold.
const PER_AREA: usize = 10_000;

/// The most chats that there can be.
pub(super) const MAX_CHATS: usize = AREAS.len() * PER_AREA - 1_000;

/// The people and groups around one or more of our numbers.
#[derive(Debug)]
pub(super) struct Cast {
    chats: usize,
    groups: usize,
    instances: usize,
    names: u64,
}

impl Cast {
    /// One chat in eight is a group.
    pub(super) fn new(seed: u64, chats: usize, instances: usize) -> Self {
        let chats = chats.clamp(1, MAX_CHATS);
        Self { chats, groups: (chats / 8).max(1), instances: instances.max(1), names: seed }
    }

    pub(super) fn chats(&self) -> usize {
        self.chats
    }

    /// Somebody who writes to this instance: everybody has one instance that they write to.
    pub(super) fn person(&self, instance: usize, random: &mut Random) -> Address {
        let mine = self.chats.saturating_sub(instance).div_ceil(self.instances).max(1);
        self.nth((random.below(mine) * self.instances + instance) % self.chats)
    }

    /// The same person has the same name in every run with the same seed.
    fn nth(&self, index: usize) -> Address {
        let mut names = Random::new(self.names ^ (index as u64).wrapping_mul(0x9E37_79B9));
        let name = format!("{} {}", names.pick(&FIRST), names.pick(&LAST));
        phone(index).named(name)
    }

    pub(super) fn group(&self, instance: usize, random: &mut Random) -> Group<'_> {
        let mine = self.groups.saturating_sub(instance).div_ceil(self.instances).max(1);
        let index = random.below(mine) * self.instances + instance;
        let address = Address::group(&format!("12036300000{index:07}"));
        Group { address: address.named(GROUPS[index % GROUPS.len()]), cast: self, index }
    }

    pub(super) fn channel(&self, random: &mut Random) -> Address {
        let index = random.below(5);
        Address::parse(&format!("12036300001{index:07}@newsletter")).named("Ofertas da semana")
    }
}

/// The number behind an instance.
pub(super) fn own(instance: usize) -> Address {
    // The last thousand of the last area are ours.
    let number = AREAS.len() * PER_AREA - 1 - instance % 1_000;
    phone(number).named(SHOPS[instance % SHOPS.len()])
}

fn phone(index: usize) -> Address {
    let area = AREAS[index / PER_AREA % AREAS.len()];
    Address::phone(&format!("55{area}99999{:04}", index % PER_AREA))
}

/// A group and who is in it.
pub(super) struct Group<'a> {
    pub(super) address: Address,
    cast: &'a Cast,
    index: usize,
}

impl Group<'_> {
    /// How many members it has.
    pub(super) fn size(&self) -> usize {
        (3 + self.index * 5 % 9).min(self.cast.chats)
    }

    pub(super) fn member(&self, nth: usize) -> Address {
        self.cast.nth((self.index * 13 + nth % self.size()) % self.cast.chats)
    }

    pub(super) fn anyone(&self, random: &mut Random) -> Address {
        self.member(random.below(self.size()))
    }
}
