"""Says "AI-manipulated" in the words that containers, XMP readers and labelling laws look for.

Three carriers, because each survives something else: a plain `comment` (kept even by a re-encode), the IPTC digital source type
in XMP (EU Code of Practice, photo desks) and the `AIGC` object (GB 45438-2025). None of them holds a name or any private data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from understudy.trust.xmp import with_xmp
from understudy.version import __version__

TOOL_NAME = "Understudy"
COMMENT = "AI-manipulated: a face in this footage was replaced by a computer (Understudy)."
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC NewsCodes: a composite of captured media and media made by a trained algorithm."""


def metadata(title: str = "", watermark_id: str = "") -> Mapping[str, str]:
    """The tags of a finished container, by the names that libavformat's muxers know.

    watermark_id: the hexadecimal identity in the invisible watermark, if there is one.
    """
    tags = {
        "comment": COMMENT,
        "description": COMMENT,
        "encoding_tool": f"{TOOL_NAME} {__version__}",
        "AIGC": aigc_json(watermark_id),
        "DigitalSourceType": DIGITAL_SOURCE_TYPE,
    }
    return {"title": title, **tags} if title else tags


def labelled_picture(picture: bytes, title: str = "") -> bytes:
    """An encoded JPEG or PNG whose XMP says that it is AI-made: for the sheets and reports that people at work look at."""
    return with_xmp(picture, xmp_packet(title))


def aigc_json(content_id: str = "") -> str:
    """The implicit label of GB 45438-2025: `Label` "1" states that the content is generated or changed by a computer."""
    label = {
        "Label": "1",
        "ContentProducer": TOOL_NAME,
        "ProduceID": content_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return json.dumps(label, separators=(",", ":"))


def xmp_packet(title: str = "", watermark_id: str = "") -> str:
    """An XMP packet with the IPTC digital source type, the tool and the `AIGC` object; text that any XMP reader accepts."""
    titled = f"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>{escape(title)}</rdf:li></rdf:Alt></dc:title>" if title else ""
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<rdf:Description rdf:about=''"
        " xmlns:Iptc4xmpExt='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'"
        " xmlns:xmp='http://ns.adobe.com/xap/1.0/'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/'"
        " xmlns:TC260='http://www.tc260.org.cn/ns/AIGC/1.0/'"
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(DIGITAL_SOURCE_TYPE)}"
        f" xmp:CreatorTool={quoteattr(f'{TOOL_NAME} {__version__}')}"
        f" TC260:AIGC={quoteattr(aigc_json(watermark_id))}>"
        f"{titled}"
        f"<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>{escape(COMMENT)}</rdf:li></rdf:Alt></dc:description>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        "<?xpacket end='w'?>"
    )
