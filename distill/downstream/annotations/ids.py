"""Number images, categories and annotations in such a way that pycocotools tells them apart."""

from collections import Counter

from distill.downstream.annotations.reading import refuse


def mend_ids(content: dict, where: str) -> list[str]:
    """Mend the ids of a file in place: those of categories, images and annotations, and the references to them.

    Args:
        content: Contents of a COCO file, as `reading.read_coco` returns them.
        where: The file's name in messages.

    Returns:
        What was done, a phrase each; nothing for an intact file.

    Raises:
        ValueError: An id is missing, stands for two things, or for none.
    """
    notes = [
        *_same_type(content, where, 'categories', 'category_id'),
        *_same_type(content, where, 'images', 'image_id'),
        *_drop_repeated(content, where, 'images', 'file_name'),
        *_drop_repeated(content, where, 'categories', 'name'),
        *_names(content, where),
        *_annotations(content),
    ]
    _check_references(content, where)
    return notes


def _same_type(content: dict, where: str, section: str, reference: str) -> list[str]:
    """Have ids and references to them be of one type: 1, 1.0 and "1" mean the same."""
    entries, users = content[section], content['annotations']
    kinds = set()
    for found, kind, key in ((entries, section, 'id'), (users, 'annotations', reference)):
        types = {type(entry.get(key)) for entry in found}
        kinds |= types
        for place, entry in enumerate(() if types <= {int, str} else found):
            value = entry.get(key)
            if type(value) not in (int, str) and whole_number(value) is None:
                problem = f'has the {key} {value!r:.40}' if key in entry else f'has no {key}'
                refuse(where, kind, place, entry, problem, 'give it a whole number')
    # Text for images works throughout, and corrupted images are seeded with it. Category ids stay inside a file.
    if kinds <= {int} or (kinds == {str} and section == 'images'):
        return []
    numbers = [whole_number(entry['id']) for entry in entries]
    if None in numbers and section == 'categories':
        # Names for ids: their places will do, for nothing outside the file knows them.
        places = {entry['id']: place for place, entry in enumerate(entries, 1)}
        if len(places) < len(entries):
            return []  # `_drop_repeated` says so.
    else:
        places = {}
    for place, user in enumerate(users):
        if places and user[reference] not in places:
            problem = f'has {reference} {user[reference]!r}, which none of the {section} has'
            refuse(where, 'annotations', place, user, problem, 'correct or remove it')
        user[reference] = _mended(user[reference], places)
    for entry in entries:
        entry['id'] = _mended(entry['id'], places)
    return [f'made whole numbers of the ids of {len(entries)} {section}']


def _mended(value, places: dict):
    """An id as a number if it is one; as the entry's place if the file is numbered by places."""
    if places:
        return places[value]
    number = whole_number(value)
    return value if number is None else number


def whole_number(value) -> int | None:
    """The whole number that a value means, as 1, 1.0 and "1" do; None if it means none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value) if float(value) == int(value) else None
    except (ValueError, OverflowError):
        return None


def _drop_repeated(content: dict, where: str, section: str, name: str) -> list[str]:
    """Drop entries that repeat another; two entries that share an id, or images that share a file, are an error."""
    entries = content[section]
    first: dict = {}
    for place, entry in enumerate(entries):
        found = entry.get(name)
        if found in (None, '') or not isinstance(found, str if name == 'file_name' else str | int | float):
            refuse(
                where, section, place, entry, f'has the {name} {found!r:.40}' if found else f'has no {name}', 'add it'
            )
        other = first.setdefault(entry['id'], entry)
        if other is not entry and other[name] != entry[name]:
            problem = f'has the id of another entry ({other[name]!r} and {entry[name]!r})'
            refuse(where, section, place, entry, problem, 'number them apart, and the annotations with them')
    if section == 'images':
        files: dict = {}
        for place, entry in enumerate(entries):
            other = files.setdefault(entry['file_name'], entry)
            if other['id'] != entry['id']:
                problem = f"is the file '{entry['file_name']}' again, which has the id {other['id']!r} before"
                refuse(where, section, place, entry, problem, 'give a file one id and all of its objects that id')
    content[section] = list(first.values())
    dropped = len(entries) - len(first)
    return [f'dropped {dropped} repeated {section}'] if dropped else []


def _names(content: dict, where: str) -> list[str]:
    """Give each class one category: of two with one name, the one that has no objects goes, as in Roboflow's files."""
    categories, notes = content['categories'], []
    numbers = [category for category in categories if not isinstance(category['name'], str)]
    for category in numbers:
        category['name'] = str(category['name'])
    if numbers:
        notes.append(f'made text of {len(numbers)} names of categories')
    counts = Counter(category['name'] for category in categories)
    if len(counts) == len(categories):
        return notes
    used = Counter(annotation['category_id'] for annotation in content['annotations'])
    kept: dict[str, dict] = {}
    for place, category in enumerate(categories):
        other = kept.setdefault(category['name'], category)
        if other is category:
            continue
        if used[other['id']] and used[category['id']]:
            problem = f'has the name of another, {category["name"]!r} (id {other["id"]!r}), and both have objects'
            refuse(where, 'categories', place, category, problem, 'a name stands for one class: rename or merge them')
        if not used[other['id']]:
            kept[category['name']] = category
    chosen = {category['id'] for category in kept.values()}
    content['categories'] = [category for category in categories if category['id'] in chosen]
    repeated = ', '.join(name for name, count in counts.items() if count > 1)
    return [
        *notes,
        f'dropped {len(categories) - len(kept)} categories without objects whose name is there twice ({repeated})',
    ]


def _annotations(content: dict) -> list[str]:
    """Number the annotations from 1 on unless their ids are whole numbers, not 0, and all different.

    pycocotools notes a match by the id of the object, and takes 0 for none; of two objects with one id it forgets one.
    """
    annotations = content['annotations']
    ids = [annotation.get('id') for annotation in annotations]
    problems = []
    whole = {type(value) for value in ids} <= {int}
    if not whole:
        problems.append('are no whole numbers')
    if len(set(ids if whole else map(repr, ids))) < len(ids):
        problems.append('are there twice')
    if 0 in ids:
        problems.append('are 0, which pycocotools takes for no match')
    if not problems:
        return []
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    return [f'numbered {len(ids)} annotations anew (some ids {", some ".join(problems)})']


def _check_references(content: dict, where: str) -> None:
    """Check that every annotation has its image and its category."""
    images = {image['id'] for image in content['images']}
    categories = {category['id'] for category in content['categories']}
    annotations = content['annotations']
    if {found['image_id'] for found in annotations} <= images and (
        {found['category_id'] for found in annotations} <= categories
    ):
        return
    for place, annotation in enumerate(annotations):
        if annotation['image_id'] not in images:
            problem = f'is on image_id {annotation["image_id"]!r}, which no image has'
            refuse(where, 'annotations', place, annotation, problem, 'add the image or remove the annotation')
        if annotation['category_id'] not in categories:
            problem = f'has category_id {annotation["category_id"]!r}, which no category has'
            refuse(where, 'annotations', place, annotation, problem, 'add the category or remove the annotation')
