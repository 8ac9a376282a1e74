import pytest

from scdae.sequences.taxonomy import genus_of, is_lineage

BACILLUS = "Bacteria;Bacillota;Bacilli;Bacillales;Bacillaceae;Bacillus"


@pytest.mark.parametrize(
    ("header", "genus"),
    [
        # SILVA: the last level is the organism
        (f"AB1.1.1400 {BACILLUS};Bacillus subtilis", "Bacillus"),
        (f"AB1.1.1400 {BACILLUS};uncultured bacterium", "Bacillus"),
        (f"AB1.1.1400 {BACILLUS};uncultured", "Bacillus"),
        ("AB1 Bacteria;Bacillota;Bacilli;Bacillales;Bacillaceae;uncultured;uncultured bacterium", ""),
        ("AB1 Bacteria;Bacillota;Clostridia;Peptostreptococcales;Family XI;Anaerococcus;human gut metagenome", "Anaerococcus"),
        ("AB1 Bacteria;Bacillota;Clostridia;Lachnospirales;Lachnospiraceae;Incertae Sedis;uncultured bacterium", ""),
        ("AB1 Bacteria;Bacillus;Bacillus subtilis", "Bacillus"),
        ("AB1 Bacteria;Bacillus;uncultured", "Bacillus"),
        ("AB1 Bacteria;Pseudomonadota;SAR11 clade;Clade I;Clade Ia;Candidatus Pelagibacter;marine bacterium", "Candidatus Pelagibacter"),
        ("AB1 Eukaryota;Opisthokonta;Fungi;Ascomycota;Saccharomyces;Saccharomyces cerevisiae", "Saccharomyces"),
        ("AB1 Bacteria;Cyanobacteriota;Cyanobacteriia;Chloroplast;Oryza sativa", "Chloroplast"),
        # training sets for DADA2: the header is the lineage
        (f"{BACILLUS};", "Bacillus"),
        (f"{BACILLUS};#2", "Bacillus"),
        (f"{BACILLUS};subtilis;", "Bacillus"),
        ("Bacteria;Bacillota;Clostridia;Clostridiales;Clostridiaceae;Clostridium sensu stricto 1;", "Clostridium sensu stricto 1"),
        ("Bacteria;Bacillota;Bacilli;", ""),
        ("Bacteria;Bacillota;Bacilli;Bacillales;Bacillaceae;", ""),
        # RDP
        ('S1 Bacillus sp.; X\tLineage=Root;rootrank;Bacteria;domain;"Firmicutes";phylum;Bacillus;genus', "Bacillus"),
        ("S1 uncultured bacterium\tLineage=Root;rootrank;Bacteria;domain;Bacillales;order", ""),
        (f"AB2|S1\tRoot;{BACILLUS}", "Bacillus"),
        ('AB2 Root;Bacteria;"Actinobacteria";Actinobacteria;Acidimicrobidae;Acidimicrobiales;"Acidimicrobineae";Acidimicrobiaceae;Ilumatobacter', "Ilumatobacter"),
        # GTDB, Greengenes, QIIME, UNITE
        ("RS_1 d__Bacteria;p__Bacillota;c__Bacilli;o__Bacillales;f__Bacillaceae;g__Bacillus_A;s__Bacillus_A cereus [len=9]", "Bacillus_A"),
        ("RS_1 d__Bacteria;p__Bacillota;g__;s__", ""),
        ("1111 k__Bacteria; p__Firmicutes; f__Bacillaceae; g__Bacillus; s__", "Bacillus"),
        ("1111 k__Bacteria; p__Firmicutes", ""),
        ("A1 D_0__Bacteria;D_4__Bacillaceae;D_5__Bacillus;D_6__uncultured bacterium", "Bacillus"),
        ("Amanita_sp|KP1|SH1|reps|k__Fungi;p__Basidiomycota;g__Amanita;s__Amanita_muscaria", "Amanita"),
        ("X|KP1|SH1|reps|k__Fungi;g__Agaricales_gen_Incertae_sedis;s__unidentified", ""),
        ("X|KP1|SH1|reps|k__Fungi;g__unidentified;s__unidentified", ""),
        # sintax and utax, sizes of vsearch
        ("AB1;tax=d:Bacteria,p:Bacillota,g:Bacillus,s:Bacillus_subtilis;", "Bacillus"),
        ("AB1;tax=d:Bacteria,p:Bacillota;", ""),
        ("AB1;size=10;tax=k:Bacteria,g:Bacillus(0.98);", "Bacillus"),
        ("AB1;size=10;", ""),
        # NCBI
        ("NR_1.1 Bacillus subtilis strain 168 16S ribosomal RNA, partial sequence", "Bacillus"),
        ("NR_1.1 [Clostridium] symbiosum strain X", "[Clostridium]"),
        ("NR_1.1 Candidatus Pelagibacter ubique", "Candidatus Pelagibacter"),
        ("NR_1.1 'Candidatus Phytoplasma' sp.", "Candidatus Phytoplasma"),
        ("AB1 uncultured bacterium clone 7", ""),
        ("AB1 Uncultured Bacillus sp. clone 7", "Bacillus"),
        ("AB1 uncultured Lachnospiraceae bacterium", ""),
        ("AB1 Lachnospiraceae bacterium oral taxon 107", ""),
        ("AB1 marine sediment bacterium X", ""),
        ("AB1 TPA: Bacillus subtilis", "Bacillus"),
        # joined to the identifier
        (f"AB1|{BACILLUS};Bacillus subtilis", "Bacillus"),
        (f"AB1|16S|{BACILLUS}", "Bacillus"),
        (f"AB1|{BACILLUS} ;Bacillus subtilis", "Bacillus"),
        (f"AB1|{BACILLUS.replace(';', '|')}|Bacillus subtilis", "Bacillus"),
        (f"AB1;size=12;{BACILLUS};Bacillus subtilis", "Bacillus"),
        ("AB1|Bacillaceae;Bacillus;Bacillus subtilis", "Bacillus"),
        ("AB1|16S;Bacillus subtilis", "Bacillus"),
        ("AB1|Bacillales;Bacillaceae;Bacillus subtilis", "Bacillus"),
        ("AB1|[Clostridium] symbiosum", "[Clostridium]"),
        ("AB1 Bacteria;Bacillota;Clostridia;Lachnospirales;Lachnospiraceae bacterium", ""),
        ("AB1|Bacillus subtilis strain 168", "Bacillus"),
        ("AB1;size=5;Bacillus subtilis", "Bacillus"),
        ("AB1|uncultured bacterium", ""),
        ("AB1|Bacteria;Bacillota;Bacilli;Bacillales;Bacillaceae;uncultured;uncultured bacterium", ""),
        ("gi|123|ref|NR_1.1| Bacillus subtilis strain 168", "Bacillus"),
        ("sp|P1|CLPX_BACSU Bacillus protease", "Bacillus"),
        # others
        ("seq_1 Genus_1 phylum_1 family_1", "Genus_1"),
        ("s1 Bacillota;Bacilli;Bacillales;Bacillaceae;Bacillus", "Bacillus"),
        ("s1 Lachnospiraceae_unclassified", ""),
        ("s1 Bacillus(100)", "Bacillus"),
        ("s1", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_genus_is_that_of_the_lineage_or_the_name(header, genus):
    assert genus_of(header) == genus


def test_a_lineage_begins_with_a_domain():
    assert is_lineage("Root;Bacteria;Bacillota") and is_lineage(BACILLUS + ";")
    assert not is_lineage("AB1;size=10;x;") and not is_lineage(f"AB1 {BACILLUS}") and not is_lineage("")
