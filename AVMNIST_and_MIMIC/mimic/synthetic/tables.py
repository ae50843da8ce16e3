"""What the synthetic MIMIC-III tables are made of: columns, item ids, texts and ICD-9 codes.

Facts only, no randomness. Columns, item ids, labels and units are those of MIMIC-III v1.4 (Johnson
et al., Sci. Data 3, 160035, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


def _columns(text: str) -> Iterator[tuple[str, str]]:
    for column in text.split():
        name, _, kind = column.partition(":")
        yield name, kind or "i"


# Columns in file order; after the colon: t text (quoted in the file), d time, n number, v text of a
# value; otherwise an integer.
_COLUMNS = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER:t DOB:d DOD:d DOD_HOSP:d DOD_SSN:d EXPIRE_FLAG",
    "ADMISSIONS": (
        "ROW_ID SUBJECT_ID HADM_ID ADMITTIME:d DISCHTIME:d DEATHTIME:d ADMISSION_TYPE:t "
        "ADMISSION_LOCATION:t DISCHARGE_LOCATION:t INSURANCE:t LANGUAGE:t RELIGION:t "
        "MARITAL_STATUS:t ETHNICITY:t EDREGTIME:d EDOUTTIME:d DIAGNOSIS:t "
        "HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA"
    ),
    "ICUSTAYS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE:t FIRST_CAREUNIT:t LAST_CAREUNIT:t "
        "FIRST_WARDID LAST_WARDID INTIME:d OUTTIME:d LOS:n"
    ),
    "SERVICES": "ROW_ID SUBJECT_ID HADM_ID TRANSFERTIME:d PREV_SERVICE:t CURR_SERVICE:t",
    "DIAGNOSES_ICD": "ROW_ID SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE:t",
    "CHARTEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME:d STORETIME:d CGID VALUE:v "
        "VALUENUM:n VALUEUOM:t WARNING ERROR RESULTSTATUS:t STOPPED:t"
    ),
    "LABEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME:d VALUE:v VALUENUM:n VALUEUOM:t FLAG:t"
    ),
    "OUTPUTEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID CHARTTIME:d ITEMID VALUE:n VALUEUOM:t "
        "STORETIME:d CGID STOPPED:t NEWBOTTLE:t ISERROR"
    ),
    "TRANSFERS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE:t EVENTTYPE:t PREV_CAREUNIT:t "
        "CURR_CAREUNIT:t PREV_WARDID CURR_WARDID INTIME:d OUTTIME:d LOS:n"
    ),
    "D_ITEMS": (
        "ROW_ID ITEMID LABEL:t ABBREVIATION:t DBSOURCE:t LINKSTO:t CATEGORY:t UNITNAME:t "
        "PARAM_TYPE:t CONCEPTID"
    ),
    "D_LABITEMS": "ROW_ID ITEMID LABEL:t FLUID:t CATEGORY:t LOINC_CODE:t",
}
# Table -> {column: kind}.
TABLES = {table: dict(_columns(text)) for table, text in _COLUMNS.items()}


class Item(NamedTuple):
    """One row of D_ITEMS. Items above 220000 are MetaVision's, the others CareVue's."""

    id: int
    label: str
    unit: str | None = None  # as VALUEUOM has it
    kind: str = "Numeric"
    table: str = "chartevents"


ITEMS = (
    Item(211, "Heart Rate", "BPM"),
    Item(220045, "Heart Rate", "bpm"),
    Item(51, "Arterial BP [Systolic]", "mmHg"),
    Item(442, "Manual BP [Systolic]", "mmHg"),
    Item(455, "NBP [Systolic]", "mmHg"),
    Item(6701, "Arterial BP #2 [Systolic]", "mmHg"),
    Item(220050, "Arterial Blood Pressure systolic", "mmHg"),
    Item(220179, "Non Invasive Blood Pressure systolic", "mmHg"),
    Item(678, "Temperature F", "Deg. F"),
    Item(676, "Temperature C", "Deg. C"),
    Item(223761, "Temperature Fahrenheit", "?F"),
    Item(223762, "Temperature Celsius", "?C"),
    Item(184, "Eye Opening"),
    Item(454, "Motor Response"),
    Item(723, "Verbal Response"),
    Item(220739, "GCS - Eye Opening", None, "Text"),
    Item(223901, "GCS - Motor Response", None, "Text"),
    Item(223900, "GCS - Verbal Response", None, "Text"),
    Item(646, "SpO2", "%"),
    Item(220277, "O2 saturation pulseoxymetry", "%"),
    Item(190, "FiO2 Set", "torr"),
    Item(3420, "FIO2"),
    Item(3422, "FIO2 [Meas]"),
    Item(223835, "Inspired O2 Fraction"),
    Item(618, "Respiratory Rate", "BPM"),
    Item(220210, "Respiratory Rate", "insp/min"),
    Item(52, "Arterial BP Mean", "mmHg"),
    Item(220052, "Arterial Blood Pressure mean", "mmHg"),
    Item(8368, "Arterial BP [Diastolic]", "mmHg"),
    Item(220051, "Arterial Blood Pressure diastolic", "mmHg"),
    Item(8441, "NBP [Diastolic]", "mmHg"),
    Item(220180, "Non Invasive Blood Pressure diastolic", "mmHg"),
    Item(456, "NBP Mean", "mmHg"),
    Item(220181, "Non Invasive Blood Pressure mean", "mmHg"),
    Item(5815, "HR Alarm [Low]", "BPM"),
    Item(220047, "Heart Rate Alarm - Low", "bpm"),
    Item(8549, "HR Alarm [High]", "BPM"),
    Item(220046, "Heart rate Alarm - High", "bpm"),
    Item(581, "Previous WeightF", "kg"),
    Item(224639, "Daily Weight", "kg"),
    Item(212, "Heart Rhythm"),
    Item(220048, "Heart Rhythm", None, "Text"),
    Item(161, "Ectopy Type"),
    Item(224650, "Ectopy Type 1", None, "Text"),
    Item(128, "Code Status"),
    Item(223758, "Code Status", None, "Text"),
    Item(550, "Precautions"),
    Item(227969, "Safety Measures_U_1", None, "Text"),
    Item(1703, "Health Care Proxy"),
    Item(223792, "Pain Management", None, "Text"),
    Item(467, "O2 Delivery Device"),
    Item(226732, "O2 Delivery Device(s)", None, "Text"),
    Item(40055, "Urine Out Foley", "ml", "Numeric", "outputevents"),
    Item(40069, "Urine Out Void", "ml", "Numeric", "outputevents"),
    Item(40054, "Stool Out Stool", "ml", "Numeric", "outputevents"),
    Item(226559, "Foley", "mL", "Numeric", "outputevents"),
    Item(226560, "Void", "mL", "Numeric", "outputevents"),
    Item(226571, "Emesis", "mL", "Numeric", "outputevents"),
    Item(227488, "GU Irrigant Volume In", "mL", "Numeric", "outputevents"),
    Item(227489, "GU Irrigant/Urine Volume Out", "mL", "Numeric", "outputevents"),
)

# Item ids of one measurement: (CareVue, with shares), (MetaVision, with shares).
CHARTED = {
    "heart_rate": (([211], [1.0]), ([220045], [1.0])),
    "systolic": (([51, 455, 442, 6701], [0.48, 0.45, 0.04, 0.03]), ([220050, 220179], [0.4, 0.6])),
    "temperature": (([678, 676], [0.75, 0.25]), ([223761, 223762], [0.8, 0.2])),
    "spo2": (([646], [1.0]), ([220277], [1.0])),
    "fio2": (([3420, 190, 3422], [0.5, 0.45, 0.05]), ([223835], [1.0])),
}
FAHRENHEIT, CELSIUS, FRACTION = (678, 223761), (676, 223762), (190,)
URINE = ((40055, 40069), (226559, 226560))  # catheter, void
DRAINED = (40054, 226571)  # outputs that are not urine
IRRIGANT_IN, IRRIGANT_OUT = 227488, 227489

# Texts of the coma scale by score, from 1 on: (item, texts) of CareVue, of MetaVision.
EYES = (
    (184, ("1 No Response", "2 To pain", "3 To speech", "4 Spontaneously")),
    (220739, ("None", "To Pain", "To Speech", "Spontaneously")),
)
MOTOR_CAREVUE = (
    "1 No Response",
    "2 Abnorm extensn",
    "3 Abnorm flexion",
    "4 Flex-withdraws",
    "5 Localizes Pain",
    "6 Obeys Commands",
)
MOTOR_METAVISION = (
    "No response",
    "Abnormal extension",
    "Abnormal Flexion",
    "Flex-withdraws",
    "Localizes Pain",
    "Obeys Commands",
)
MOTOR = ((454, MOTOR_CAREVUE), (223901, MOTOR_METAVISION))
VERBAL_CAREVUE = (
    "1 No Response",
    "2 Incomp sounds",
    "3 Inapprop words",
    "4 Confused",
    "5 Oriented",
)
VERBAL_METAVISION = (
    "No Response",
    "Incomprehensible sounds",
    "Inappropriate Words",
    "Confused",
    "Oriented",
)
VERBAL = ((723, VERBAL_CAREVUE), (223900, VERBAL_METAVISION))
INTUBATED = ("1.0 ET/Trach", "No Response-ETT")

# Charted items that no series uses: (CareVue id, MetaVision id, mean, spread), and (CareVue id,
# MetaVision id, three usual texts).
OTHER_NUMBERS = (
    (618, 220210, 19, 4),
    (52, 220052, 78, 10),
    (8368, 220051, 60, 9),
    (8441, 220180, 62, 9),
    (456, 220181, 79, 10),
    (5815, 220047, 55, 5),
    (8549, 220046, 120, 8),
    (581, 224639, 80, 12),
)
OTHER_TEXTS = (
    (212, 220048, ("Normal Sinus", "Sinus Tachy", "Atrial Fib")),
    (161, 224650, ("None", "None", "PVC's")),
    (128, 223758, ("Full Code", "Full Code", "DNR / DNI")),
    (550, 227969, ("Universal", "Universal", "Contact")),
    (1703, 223792, ("Yes", "No", "NA")),
    (467, 226732, ("Nasal Cannula", "None", "Face Tent")),
)

# Id -> label, category, unit.
LAB_ITEMS = {
    50800: ("SPECIMEN TYPE", "BLOOD GAS", None),
    50801: ("Alveolar-arterial Gradient", "Blood Gas", None),
    50803: ("Calculated Bicarbonate, Whole Blood", "Blood Gas", "mEq/L"),
    50804: ("Calculated Total CO2", "Blood Gas", "mEq/L"),
    50811: ("Hemoglobin", "Blood Gas", "g/dL"),
    50813: ("Lactate", "Blood Gas", "mmol/L"),
    50815: ("O2 Flow", "Blood Gas", "L/min"),
    50816: ("Oxygen", "Blood Gas", "%"),
    50817: ("Oxygen Saturation", "Blood Gas", "%"),
    50818: ("pCO2", "Blood Gas", "mm Hg"),
    50820: ("pH", "Blood Gas", "units"),
    50821: ("pO2", "Blood Gas", "mm Hg"),
    50822: ("Potassium, Whole Blood", "Blood Gas", "mEq/L"),
    50824: ("Sodium, Whole Blood", "Blood Gas", "mEq/L"),
    50882: ("Bicarbonate", "Chemistry", "mEq/L"),
    50885: ("Bilirubin, Total", "Chemistry", "mg/dL"),
    50912: ("Creatinine", "Chemistry", "mg/dL"),
    50971: ("Potassium", "Chemistry", "mEq/L"),
    50983: ("Sodium", "Chemistry", "mEq/L"),
    51006: ("Urea Nitrogen", "Chemistry", "mg/dL"),
    51221: ("Hematocrit", "Hematology", "%"),
    51265: ("Platelet Count", "Hematology", "K/uL"),
    51300: ("WBC Count", "Hematology", "K/uL"),
    51301: ("White Blood Cells", "Hematology", "K/uL"),
}
SPECIMENS = ("ART", "VEN", "MIX", "CENTRAL VENOUS")

# The 20 ICD-9 label groups in their order: share of admissions that have one, and codes. The shares
# are those of the published 24 h cohort; groups 1 (140-239) and 7 (460-519) are drawn from the
# tasks' log-odds instead.
ICD9_GROUPS = (
    (0.258, "0389 00845 1122 0414 07054"),
    (None, "1628 1890 2252 1550 1749 2113 1911"),
    (0.688, "25000 2724 2720 2761 2449"),
    (0.369, "2851 2859 2875 28521"),
    (0.318, "311 30500 2930 2948"),
    (0.294, "32723 3453 34982 3572"),
    (0.831, "4019 41401 4280 42731 41071"),
    (None, "51881 486 5070 496 5119 49390"),
    (0.391, "53081 5715 5789 56039"),
    (0.399, "5849 5990 5859 60000"),
    (0.004, "64681 66612"),
    (0.102, "6826 70703 6959"),
    (0.190, "73300 71590 7140 72888"),
    (0.036, "7455 7464 75251"),
    (0.320, "78552 7843 78959 78039 7806"),
    (0.086, "79092 7907 7931"),
    (0.030, "7991 7994 79989"),
    (0.450, "99592 9971 99811 8052 8208"),
    (0.479, "V4581 V5861 V1582 V1046"),
    (0.335, "E8788 E8497 E9342 E8859"),
)
AIDS = "042"
HAEMATOLOGICAL = ("20500", "20280", "20300", "20410", "2386", "20210", "2733")
METASTATIC = ("1970", "1983", "1985", "19889")
