"""Single words to translate from English into Spanish and French."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_WORDS = table("""
house => casa, maison
water => agua, eau
dog => perro, chien
cat => gato, chat
book => libro, livre
bread => pan, pain
milk => leche, lait
red => rojo, rouge
green => verde, vert
night => noche, nuit
sun => sol, soleil
friend => amigo|amiga, ami|amie
school => escuela|colegio, école
window => ventana, fenêtre
spoon => cuchara, cuillère|cuiller
butterfly => mariposa, papillon
key => llave, clé|clef
snow => nieve, neige
knife => cuchillo, couteau
bridge => puente, pont
""")


def translate(rng: Random) -> Iterator[Item]:
    for word, right in rng.sample(_WORDS, len(_WORDS)):
        for language, answer in zip(("Spanish", "French"), right.split(", "), strict=True):
            yield Item(
                f'Translate the English word "{word}" into {language}. Answer with one word.', answer, "contains"
            )
