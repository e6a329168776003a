//! What people and shops say.

use super::random::Random;

const OPENERS: [&str; 14] = [
    "Oi, tudo bem?",
    "Bom dia! Vocês abrem hoje?",
    "Boa tarde, queria saber o preço de {item}",
    "Olá, meu pedido {n} ainda não chegou",
    "Vocês têm {item} em estoque?",
    "Consigo agendar para {hour}?",
    "Oi! Vi o anúncio e fiquei interessado em {item}",
    "Boa noite, o boleto do pedido {n} venceu, como faço?",
    "Preciso trocar o endereço de entrega do pedido {n}",
    "Quanto fica o frete para o meu bairro?",
    "Oi, é possível parcelar {item}?",
    "Olá! Ainda dá tempo de pedir hoje?",
    "Recebi {item} com defeito 😕",
    "Hi, do you ship {item} abroad?",
];

const ANSWERS: [&str; 14] = [
    "Olá! Tudo ótimo, como posso ajudar?",
    "Temos sim! {item} sai por R$ {price}",
    "Seu pedido {n} saiu para entrega e chega até {hour}",
    "Pode ser às {hour}?",
    "Vou verificar e já te retorno 🙂",
    "Claro, parcelamos em até 6x sem juros",
    "O frete fica R$ {price}, com entrega amanhã",
    "Pedimos desculpas! Vamos trocar sem custo",
    "Segue o link atualizado: https://loja.example.com/p/{n}",
    "Endereço atualizado no pedido {n} ✅",
    "Abrimos de segunda a sábado, das 9h às {hour}",
    "Sim! Só me confirma o CEP, por favor",
    "Anotado. Mais alguma coisa?",
    "Yes, we do. Shipping is R$ {price}.",
];

const FOLLOW_UPS: [&str; 12] = [
    "Perfeito, obrigado!",
    "E se eu levar dois?",
    "Pode separar para mim",
    "Ok, fico no aguardo",
    "Tem em outra cor?",
    "Aceita pix?",
    "👍",
    "Vou passar aí às {hour}",
    "Ah, e também queria {item}",
    "Show, fechado",
    "Consegue me mandar uma foto?",
    "Thanks, that works for me.",
];

const CHATTER: [&str; 14] = [
    "Alguém sabe se a reunião continua às {hour}?",
    "Confirmado 👊",
    "Eu levo {item}",
    "Chego uns 10 minutos atrasado",
    "Quem ficou de trazer {item}?",
    "kkkkkk",
    "Bom dia, pessoal!",
    "Subi as fotos na pasta",
    "Gente, mudou para {hour}",
    "Faltam {n} para fechar a meta",
    "Pode deixar comigo",
    "Obrigada a todos!",
    "Alguém pode atender a recepção?",
    "Quem topa almoço?",
];

const ITEMS: [&str; 12] = [
    "o kit de ferramentas",
    "a ração de 15 kg",
    "um bolo de cenoura",
    "a capa do sofá",
    "o tênis azul",
    "o filtro de ar",
    "uma cesta de café da manhã",
    "o suporte de TV",
    "a consulta de retorno",
    "o plano mensal",
    "a camiseta do evento",
    "o carregador",
];

const EMOJI: [&str; 6] = ["👍", "❤️", "😂", "🙏", "🎉", "😮"];

pub(super) fn opener(random: &mut Random) -> String {
    filled(&OPENERS, random)
}

pub(super) fn answer(random: &mut Random) -> String {
    filled(&ANSWERS, random)
}

pub(super) fn follow_up(random: &mut Random) -> String {
    filled(&FOLLOW_UPS, random)
}

pub(super) fn chatter(random: &mut Random) -> String {
    filled(&CHATTER, random)
}

pub(super) fn item(random: &mut Random) -> &'static str {
    ITEMS[random.below(ITEMS.len())]
}

pub(super) fn emoji(random: &mut Random) -> &'static str {
    EMOJI[random.below(EMOJI.len())]
}

/// A price with two decimals and a point, as catalogs have it.
pub(super) fn price(random: &mut Random) -> String {
    format!("{}.{}0", 9 + random.below(390), random.below(10))
}

fn filled(from: &[&str], random: &mut Random) -> String {
    let text = *random.pick(from);
    text.replace("{item}", item(random))
        .replace("{n}", &(1_000 + random.below(9_000)).to_string())
        .replace("{hour}", &format!("{}h", 8 + random.below(12)))
        .replace("{price}", &price(random).replace('.', ","))
}
