"""Table of the linter's rules: the meaning of each, and its cure.

A `defect` is impossible or unusable; a `note` is worth a look and fails nothing.
"""

from typing import Literal, NamedTuple

Level = Literal["defect", "note"]


class Rule(NamedTuple):
    """Level, meaning and cure of a rule."""

    level: Level
    meaning: str
    cure: str


RULES: dict[str, Rule] = {
    # Files
    "not-a-file": Rule("defect", "a folder, pipe, device or broken link where a file belongs",
                       "put a regular file in its place"),
    "empty-file": Rule("defect", "a file of 0 bytes where content belongs",
                       "copy the file again, or delete it together with what names it"),
    "too-large": Rule("defect", "a file or image over the limit of size",
                      "split the annotations, or make the image smaller"),
    "not-utf8": Rule("defect", "text that is not UTF-8", "save the file as UTF-8"),
    "unreadable": Rule("defect", "annotations that do not follow their format",
                       "correct the file, or export it again"),
    "unusable-name": Rule("defect", "a name with half a character in it, or of over 200 bytes",
                          "write the name again; no file can hold it as it is"),
    "too-deep": Rule("defect", "nested deeper than annotations are",
                     "export the file again without what is nested"),
    "entities": Rule("defect", "XML that declares a document type or entities",
                     "remove the DOCTYPE and every ENTITY"),
    "missing-field": Rule("defect", "an entry without a field that it needs",
                          "add the field, or remove the entry"),
    "other-shape": Rule("defect", "a labelling tool's shape, neither rectangle nor outline",
                        "draw a rectangle or a polygon around the object"),
    "ambiguous-row": Rule("defect", "a YOLO row that may be a box with key points or an outline",
                          "write kpt_shape into data.yaml: [points, 2 or 3], or null for outlines"),
    # Names
    "ambiguous-name": Rule("defect", "a name that may mean several images",
                           "write the whole path below the images' folder"),
    "unsafe-path": Rule("defect", "a name that is absolute or leads out by ..",
                        "name the file relative to the images' folder"),
    "missing-image": Rule("defect", "an image is named and is not there",
                          "add the image, or remove what names it"),
    "missing-annotation": Rule("defect", "a split lists an image without annotations",
                               "add the annotation file, or take the name off the list"),
    "missing-split": Rule("defect", "a split names a folder or list that is empty or not there",
                          "correct the path, or remove the split"),
    "unlabelled-image": Rule("defect", "an image without a label file, which is taken as empty",
                             "label it; an empty label file says that nothing is in it"),
    "wrong-filename": Rule("note", "the file name inside an XML file is another one's",
                           "correct the file name; it is not used here, but it is elsewhere"),
    "no-objects": Rule("note", "annotated images in which nothing is marked",
                       "check that they are meant to be empty"),
    "duplicate-id": Rule("defect", "an id that several images have", "give each image its own id"),
    "annotation-ids": Rule("note", "annotations without an id, or with one that was there before",
                           "give each its own; they are not used here, but they are elsewhere"),
    "duplicate-image": Rule("defect", "an image file that is listed more than once",
                            "list each image once"),
    "two-splits": Rule("defect", "an image that stands in two splits",
                       "keep it in one of them, or the measured accuracy is too good"),
    # Classes
    "unknown-class": Rule("defect", "a class name or number outside the class list",
                          "correct the name, or add the class to the list"),
    "unknown-image-id": Rule("defect", "an annotation of an image that is not listed",
                             "add the image, or remove the annotation"),
    "shifted-classes": Rule("defect", "class numbers that are all one too high or too low",
                            "count as the format does: YOLO from 0, COCO by its categories' ids"),
    "duplicate-class": Rule("defect", "two classes of one id or name",
                            "make ids and names of classes different"),
    "different-classes": Rule("defect", "parts of the data set with different class lists",
                              "export all parts with one list"),
    "similar-names": Rule("note", "class names that differ only in capitals or spaces",
                          "use one spelling"),
    "nothing-counts": Rule("note", "objects that are all difficult or crowds, so none counts",
                           "set difficult or iscrowd to 0 for what is to be found"),
    "unused-class": Rule("note", "a class without any object",
                         "remove it from the list, or label some objects"),
    "imbalance": Rule("note", "a class with over 100 times as many objects as another",
                      "label more of the rare class, or measure each class by itself"),
    # Boxes
    "swapped": Rule("defect", "boxes in another convention than the format's (corners or sizes)",
                    "export them again in the format's own convention"),
    "not-normalised": Rule("defect", "YOLO values outside 0 to 1",
                           "divide x and width by the image's width, y and height by its height"),
    "normalised": Rule("defect", "a box in shares of its image, where pixels belong",
                       "multiply x and width by the image's width, y and height by its height"),
    "not-finite": Rule("defect", "a box with NaN, infinity or a number beyond all images",
                       "correct or remove the box"),
    "negative": Rule("defect", "a box with a negative side", "exchange its corners, or remove it"),
    "degenerate": Rule("defect", "a box without area", "draw it again, or remove it"),
    "outside": Rule("defect", "a box of which less than half is inside its image",
                    "check image and box belong together; correct or remove the box"),
    "duplicate": Rule("defect", "the same box with the same class twice in an image",
                      "remove one of them"),
    "crowd": Rule("defect", "iscrowd that is neither 0 nor 1, or an outline of the wrong kind",
                  "1 goes with a run-length mask of many objects, 0 with polygons of one"),
    "bad-flag": Rule("defect", "difficult that is neither 0 nor 1", "write 0 or 1"),
    "beyond-edge": Rule("note", "a box that reaches over the image's edge by over a pixel",
                        "cut it at the edge"),
    "tiny": Rule("note", "a box with a side under 2 pixels", "check that it is no slip"),
    "below-proposals": Rule("note", "objects or images too small for the default proposals",
                            "proposals.options.min_box_side=1 and superpixel_scale=1, or larger"
                            " images (longest_side)"),
    "whole-image": Rule("note", "a box over at least 99.5 % of its image",
                        "check that the object fills the image"),
    "extreme-aspect": Rule("note", "a box over 25 times as long as wide", "check its corners"),
    # Pictures (not with --fast)
    "unreadable-image": Rule("defect", "a file that is not an image", "replace or remove it"),
    "truncated-image": Rule("defect", "an image that breaks off or is damaged", "copy it again"),
    "wrong-size": Rule("defect", "annotations that tell another size than the image has",
                       "find the image they were drawn on, or correct the size and the boxes"),
    "raw-frame": Rule("defect", "the size of the raw frame, though EXIF turns the image",
                      "turn the pixels and drop the EXIF tag, or annotate the upright image"),
    "unknown-frame": Rule("note", "images that EXIF turns, and boxes whose frame nothing tells",
                          "if they are of the raw frame, turn the pixels and drop the EXIF tag"),
    "image-warning": Rule("note", "an image that is not used as it is stored",
                          "see what is said of it"),
    "same-image": Rule("defect", "the same pixels in two files of one split", "keep one of them"),
    "leak": Rule("defect", "the same pixels in two splits",
                 "keep one of them, or the measured accuracy is too good"),
}  # fmt: skip
