"""Single words to translate from English into four languages."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_LANGUAGES = ("Spanish", "French", "German", "Italian")

_WORDS = table("""
house => casa, maison, Haus, casa
water => agua, eau, Wasser, acqua
dog => perro, chien, Hund, cane
cat => gato, chat, Katze, gatto
book => libro, livre, Buch, libro
bread => pan, pain, Brot, pane
milk => leche, lait, Milch, latte
red => rojo, rouge, rot, rosso
green => verde, vert, grün, verde
night => noche, nuit, Nacht, notte
sun => sol, soleil, Sonne, sole
friend => amigo|amiga, ami|amie, Freund|Freundin, amico|amica
school => escuela|colegio, école, Schule, scuola
window => ventana, fenêtre, Fenster, finestra
spoon => cuchara, cuillère|cuiller, Löffel, cucchiaio
butterfly => mariposa, papillon, Schmetterling, farfalla
key => llave, clé|clef, Schlüssel, chiave
snow => nieve, neige, Schnee, neve
knife => cuchillo, couteau, Messer, coltello
bridge => puente, pont, Brücke, ponte
""")


def translate(rng: Random) -> Iterator[Item]:
    """Two languages per word, so that common and rare words meet every language."""
    for place, (word, right) in enumerate(_WORDS):
        answers = right.split(", ")
        for turn in (place, place + 1 + rng.randrange(3)):
            language = _LANGUAGES[turn % 4]
            prompt = f'Translate the English word "{word}" into {language}. Answer with one word.'
            yield Item(prompt, answers[turn % 4], "contains")
